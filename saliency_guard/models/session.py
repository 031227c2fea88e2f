"""A prompt being continued by a model: prefill, steps, scored chunks, and the cache between them.

Every call leaves the model as it found it, so that a caller may stop between any two of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout, prompt_layout
from saliency_guard.errors import InputError, UnsupportedModelError
from saliency_guard.models.attention import Tape, attending
from saliency_guard.models.forward import check_supported, forget_rope, kept_offset, last_logits, undisturbed
from saliency_guard.models.inputs import shortened, unpadded
from saliency_guard.models.kv_cache import cached_pass, copied, empty_cache, set_back
from saliency_guard.models.locore import LocoREConfig, row_gains
from saliency_guard.models.skip_layers import recording, resuming


@dataclass(slots=True, eq=False)
class Chunk:
    """Several known tokens run at once.

    Attributes:
        logits: ``[n, V]``, or ``[B, n, V]`` of a batch: row t predicts what follows token t; in the graph
            where there is a tape.
        first_query: position of row 0; in a batch, its place in the cache.
        tape: the target layers' records, or None.
    """

    logits: Tensor
    first_query: int
    tape: Tape | None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.logits.shape[-2]


class Session:
    """One prompt of one model, and how far it has been continued.

    After construction the cache holds the prompt without its last token: that token is the first row
    of the first chunk, since it is the one that predicts the first output token.

    Attributes:
        model: the model.
        inputs: the prompt's, without padding.
        layout: sources of the prompt.
        locore: the gains the continuation runs under.
        last_prompt_token: where a continuation begins.
        cache: keys and values.
        tokens: what was run after the prompt, beginning with its last token.
        croppable: whether the cache can forget its newest positions; a recurrent layer's cannot.
        entry: the layer whose incoming states are kept (`keep_states`).
        states: ``[1, 1, D]`` what entered it, one for each of ``tokens`` or for none.
        rope_delta: the offset of multimodal rotary positions after the prompt.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Any],
        *,
        locore: LocoREConfig | None = None,
        layout: PromptLayout | None = None,
    ) -> None:
        check_supported(model, locore)
        self.model = model
        self.inputs = unpadded(inputs)
        self.layout = layout or prompt_layout(model.config, self.inputs)
        self.locore = locore
        last = self.layout.spans[-1] if self.layout.spans else None
        if last is not None and last.is_visual and last.stop == self.layout.length:
            msg = "the prompt ends with an image: the token that predicts the answer must be text"
            raise InputError(msg)
        self.last_prompt_token = int(self.inputs["input_ids"][0, -1])
        self.cache, self.croppable = empty_cache(model)
        self.tokens: list[int] = []
        self.states: list[Tensor] = []
        self.rope_delta: Tensor | None = None
        self.entry: int | None = None
        self._prefill()

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return int(self.cache.get_seq_length())

    @property
    def prompt_length(self) -> int:
        """Positions of the prompt; the first output token has this position."""
        return self.layout.length

    def keep_states(self, layer: int) -> None:
        """Keep what enters a layer from now on, so that `rescore` with it as the lowest need not run those below."""
        if layer != self.entry:
            self.entry = layer
            self.states.clear()

    def fork(self, *, locore: LocoREConfig | None, layout: PromptLayout) -> Session:
        """Another session of the same prompt that shares what is cached; neither changes the other.

        Args:
            locore: its gains; what was run under others is forgotten.
            layout: its sources.
        """
        check_supported(self.model, locore)
        twin = copy.copy(self)
        twin.cache = copied(self.cache)
        twin.tokens, twin.states = list(self.tokens), list(self.states)
        twin.layout = layout
        if locore != self.locore:
            twin.locore = locore
            twin.crop(twin.prompt_length - 1)
        return twin

    def _prefill(self) -> None:
        # Where the last token cannot be taken back, it is not read; its position knows no image.
        read = self.inputs if self.croppable else shortened(self.inputs)
        with undisturbed(self.model):
            forget_rope(self.model)
            last_logits(self.model, {**read, "past_key_values": self.cache, "use_cache": True}, 1)
            self.rope_delta = kept_offset(self.model)
        if self.length != read["input_ids"].shape[1]:
            msg = f"{type(self.model).__name__} does not fill a key-value cache"
            raise UnsupportedModelError(msg)
        self.crop(self.prompt_length - 1)

    def run(self, tokens: Sequence[int], *, layers: tuple[int, ...] | None = None) -> Chunk:
        """Feed tokens after what is cached.

        Args:
            tokens: known token ids; row t of the result is the query at ``self.length + t``.
            layers: target layers to keep on tape; None runs without gradient.

        Raises:
            NonFiniteError: if the logits are NaN or infinite.
            UnsupportedModelError: if a target layer's attention did not come past.
        """
        with undisturbed(self.model), recording(self.model, self.entry) as entered:
            chunk = self._pass(tokens, layers)
        if len(self.states) == len(self.tokens):
            self.states += [one for states in entered for one in states.split(1, dim=1)]
        self.tokens += tokens
        return chunk

    def rescore(self, first: int, count: int, *, layers: tuple[int, ...]) -> Chunk:
        """Run tokens that are in the cache once more, on tape; the cache stays as it is.

        Args:
            first: position of the first of them, none of the prompt's but its last.
            count: how many.
            layers: target layers; where `keep_states` knows what entered the lowest, those below do not run.
        """
        start = first - (self.prompt_length - 1)
        tokens = self.tokens[start : start + count]
        states = self.states[start : start + count] if self.entry == min(layers) else []
        known = states if len(states) == count else []
        with (
            undisturbed(self.model),
            set_back(self.cache, first),
            resuming(self.model, min(layers), known) as entry,
        ):
            return self._pass(tokens, layers, entry=entry)

    def _pass(self, tokens: Sequence[int], layers: tuple[int, ...] | None, *, entry: int = 0) -> Chunk:
        first, count = self.length, len(tokens)
        ids = torch.tensor([list(tokens)], device=self.inputs["input_ids"].device)
        tape = Tape(layers) if layers is not None else None
        gained = row_gains(self.model, self.locore, first, count, self.prompt_length)
        inputs = {"input_ids": ids, "position_ids": self.positions(first, count)}
        logits = cached_pass(self.model, self.cache, inputs, tape=tape, gains=gained, entry=entry)
        return Chunk(logits, first, tape)

    def positions(self, first: int, count: int) -> Tensor:
        """``[1, count]`` rotary positions from a position on (``[3, 1, count]`` where the model has three kinds)."""
        return _positions(first, count, self.rope_delta, self.inputs["input_ids"].device)

    def run_answer(self, answer: Tensor, *, layers: tuple[int, ...]) -> Chunk:
        """The rows that predict an answer ``[N]`` right after the prompt, on tape; what is known of it is reused."""
        return next(self.run_pieces(answer, len(answer), layers=layers))

    def run_pieces(self, answer: Tensor, size: int, *, layers: tuple[int, ...]) -> Iterator[Chunk]:
        """`run_answer` in pieces of at most ``size`` rows; where rows of one pass would mix, one at a time."""
        tokens = [self.last_prompt_token, *answer[:-1].tolist()]
        first = self.prompt_length - 1
        known = self.croppable and self.tokens[: len(tokens)] == tokens
        if not known:
            self.crop(first)
            self.keep_states(min(layers))
        step = size if self.croppable else 1
        for start in range(0, len(tokens), step):
            piece = tokens[start : start + step]
            if known:
                yield self.rescore(first + start, len(piece), layers=layers)
            else:
                yield self.run(piece, layers=layers)

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on."""
        kept = max(length - (self.prompt_length - 1), 0)
        del self.tokens[kept:], self.states[kept:]
        if length < self.length:
            self.cache.crop(length - self.length)


def hidden_states(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    tokens: Sequence[int],
    *,
    prompt_length: int,
    locore: LocoREConfig | None,
) -> tuple[Tensor, ...]:
    """The decoder's states for prompt and answer: a plain pass over each, without gradient.

    Returns:
        For the embeddings and after every layer ``[T, D]``; the last one is normalised, as transformers has it.
    """
    check_supported(model, locore)
    prompt = unpadded(inputs)
    cache, _ = empty_cache(model)
    ids = torch.tensor([list(tokens)], device=prompt["input_ids"].device)
    asked: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "return_dict": True}
    with undisturbed(model):
        forget_rope(model)
        before = model(**prompt, **asked, output_hidden_states=True).hidden_states
        positions = _positions(prompt_length, len(tokens), kept_offset(model), ids.device)
        with attending(model, gains=row_gains(model, locore, prompt_length, len(tokens), prompt_length)):
            after = model(input_ids=ids, position_ids=positions, **asked, output_hidden_states=True).hidden_states
    return tuple(torch.cat([one[0], other[0]]) for one, other in zip(before, after, strict=True))


def _positions(first: int, count: int, rope_delta: Tensor | None, device: torch.device) -> Tensor:
    positions = torch.arange(first, first + count, device=device)[None]
    return positions if rope_delta is None else (positions + rope_delta.to(device)).expand(3, 1, count)
