"""A prompt being continued by a model: prefill, steps, scored chunks, and the cache between them.

Every call leaves the model as it found it, so that a caller may stop between any two of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from saliency_guard.chat.layout import PromptLayout, prompt_layout
from saliency_guard.chat.pictures import holds_pixels
from saliency_guard.errors import InputError, UnsupportedModelError
from saliency_guard.models.attention import Tape
from saliency_guard.models.forward import (
    cache_argument,
    check_supported,
    forget_rope,
    last_logits,
    run_whole,
    undisturbed,
    without_gradients,
)
from saliency_guard.models.inputs import SEEN_PICTURES, check_vocabulary, continued, position_axis, shortened, unpadded
from saliency_guard.models.kv_cache import cached_pass, copied, empty_cache, set_back, truncate
from saliency_guard.models.layers import attention_layers
from saliency_guard.models.locore import LocoREConfig, row_gains
from saliency_guard.models.positions import counts_places, prompt_positions, watching
from saliency_guard.models.self_check import check_continuation, needs_check
from saliency_guard.models.skip_layers import recording, resuming


@dataclass(slots=True, eq=False)
class Chunk:
    """Several known tokens run at once.

    Attributes:
        logits: ``[n, V]``, or ``[B, n, V]`` of a batch: row t predicts what follows token t; in the graph
            where there is a tape.
        first_query: position of row 0; in a batch, its place in the cache.
        tape: the target layers' records, or None.
        states: where they were asked for, ``[B, n, D]`` for the embeddings and after every layer.
    """

    logits: Tensor
    first_query: int
    tape: Tape | None
    states: tuple[Tensor, ...] = ()

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
        counted: how the model counts the prompt's positions, and goes on after it.
        image_states: ``[I, D]`` at the positions of all pictures, for the embeddings and after every layer; of pictures
            that are seen across, what the layers see of them, once; None where they were not asked for.
        picture_features: what the model makes of each picture, once somebody has looked
            (`saliency_guard.domain_features`): a retry need not look again.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Any],
        *,
        locore: LocoREConfig | None = None,
        layout: PromptLayout | None = None,
        with_image_states: bool = False,
    ) -> None:
        check_supported(model, locore)
        self.model = model
        self.inputs = unpadded(inputs)
        check_vocabulary(model, self.inputs["input_ids"])
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
        self.entry: int | None = None
        self.image_states: tuple[Tensor, ...] | None = None
        self.picture_features: Tensor | None = None
        self._begun: Cache | None = None
        self._prefill(with_image_states=with_image_states)
        if needs_check(model):
            self._check()

    def _check(self) -> None:
        """Whether the model is continued as it reads: two rows, through our attention."""
        twin = self.fork(locore=None, layout=self.layout)
        layers = attention_layers(self.model)
        with without_gradients():
            rows = [twin.run([self.last_prompt_token], layers=layers).logits.detach()]
            token = int(rows[0][-1].argmax())
            rows.append(twin.run([token], layers=layers).logits.detach())
        check_continuation(self.model, self.inputs, [token], torch.cat(rows))

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return int(self.cache.get_seq_length())

    @property
    def joins(self) -> bool:
        """Whether it can be continued in one batch with others."""
        alone = self.counted.both_ways or bool(self.layout.across) or counts_places(self.model)
        return self.croppable and not alone

    @property
    def prompt_length(self) -> int:
        """Positions of the prompt; the first output token has this position."""
        return self.layout.length

    def keep_states(self, layer: int | None) -> None:
        """Keep what enters a layer from now on, so that `rescore` with it as the lowest need not run those below.

        Args:
            layer: its index; None keeps nothing.
        """
        if layer != self.entry:
            self.entry = layer
            self.states.clear()

    def fork(self, *, locore: LocoREConfig | None, layout: PromptLayout) -> Session:
        """Another session of the same prompt that shares what is cached; neither changes the other.

        Args:
            locore: its gains; what was run under others is forgotten.
            layout: its sources.
        """
        if locore != self.locore:
            check_supported(self.model, locore)
        twin = copy.copy(self)
        twin.cache = copied(self.cache)
        twin.tokens, twin.states = list(self.tokens), list(self.states)
        twin.layout = layout
        if locore != self.locore:
            twin.locore = locore
            twin.crop(twin.prompt_length - 1)
        return twin

    def _prefill(self, *, with_image_states: bool) -> None:
        # Where the last token cannot be taken back, it is not read.
        read = self.inputs if self.croppable else shortened(self.inputs)
        length = read["input_ids"].shape[1]
        inference = torch.inference_mode(mode=self.croppable)
        with undisturbed(self.model), inference, watching(self.model) as calls:
            forget_rope(self.model)
            states: list[Tensor] | None = [] if with_image_states else None
            cached = {cache_argument(self.model): self.cache, "use_cache": True}
            last_logits(self.model, {**read, **cached}, 1, states=states)
        if self.length != length:
            msg = f"{type(self.model).__name__} does not fill a key-value cache"
            raise UnsupportedModelError(msg)
        picture = self.layout.after_image == length
        self.counted = prompt_positions(self.model, calls, length, ends_with_picture=picture)
        if states is not None and self.layout.across:
            self.image_states = (calls[0]["cross_attention_states"].detach().flatten(0, 1),)
        elif states is not None:
            positions = self.layout.image_positions
            self.image_states = tuple(layer[0, positions.to(layer.device)] for layer in states)
        self.crop(self.prompt_length - 1)
        self._begun = None if self.croppable else copied(self.cache)

    def require_image_states(self) -> None:
        """Read the prompt once more for the states at its pictures, where they were not kept the first time."""
        if self.image_states is None:
            again = Session(self.model, self.inputs, locore=self.locore, layout=self.layout, with_image_states=True)
            self.image_states = again.image_states

    def shared_length(self, inputs: Mapping[str, Any], layout: PromptLayout) -> int | None:
        """How many positions another prompt shares with this one, all pictures and what stands before them included.

        At least the other prompt's last position is not among them.

        Args:
            inputs: of the other prompt, without padding.
            layout: its sources.

        Returns:
            None where they do not begin alike, or where what follows a picture may change how it is read (a prefix that
            attends in both directions).
        """
        if not self.joins or "token_type_ids" in inputs or layout.after_image != self.layout.after_image:
            return None
        ids, other_ids = self.inputs["input_ids"], inputs["input_ids"]
        common = min(ids.shape[1], other_ids.shape[1])
        same = int((ids[0, :common] == other_ids[0, :common]).cumprod(0).sum())
        start = min(same, other_ids.shape[1] - 1, self.prompt_length - 1)
        return start if start >= layout.after_image and _same_pictures(self.inputs, inputs) else None

    def with_text(self, inputs: Mapping[str, Any], layout: PromptLayout) -> Session | None:
        """A session of another prompt whose pictures, and all that stands before them, are this one's.

        Only the text after the last picture is read.

        Args:
            inputs: of the other prompt, without padding.
            layout: its sources.

        Returns:
            None where the other prompt does not begin as this one does, or where what follows a picture may change how
            the picture is read (a prefix that attends in both directions).
        """
        start, other_ids = self.shared_length(inputs, layout), inputs["input_ids"]
        if start is None:
            return None
        twin = self.fork(locore=self.locore, layout=self.layout)
        twin.crop(start)
        twin.inputs, twin.layout = dict(inputs), layout
        twin.last_prompt_token = int(other_ids[0, -1])
        unread = other_ids[:, start:-1]
        if unread.shape[1] > 0:
            cached_pass(
                self.model, twin.cache, {"input_ids": unread, "position_ids": twin.positions(start, unread.shape[1])}
            )
        return twin

    def run(self, tokens: Sequence[int], *, layers: tuple[int, ...] | None = None, with_states: bool = False) -> Chunk:
        """Feed tokens after what is cached.

        Args:
            tokens: known token ids; row t of the result is the query at ``self.length + t``.
            layers: target layers to keep on tape; None runs without gradient.
            with_states: whether the chunk is to hold every layer's states.

        Raises:
            NonFiniteError: if the logits are NaN or infinite.
            UnsupportedModelError: if a target layer's attention was not routed through ours.
        """
        opens = self.counted.both_ways and not self.tokens
        with undisturbed(self.model), recording(self.model, self.entry) as entered:
            if opens:
                chunk = self._open(tokens, layers, with_states=with_states)
            else:
                chunk = self._pass(tokens, layers, with_states=with_states)
        if len(self.states) == len(self.tokens):
            self.states += [state for states in entered for state in states.split(1, dim=1)]
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
        if start == 0 and self.counted.both_ways:
            return self._whole_pass(tokens, layers)
        states = self.states[start : start + count] if self.entry == min(layers) else []
        known = states if len(states) == count else []
        with (
            undisturbed(self.model),
            set_back(self.cache, first),
            resuming(self.model, min(layers), known) as entry,
        ):
            return self._pass(tokens, layers, entry=entry)

    def _open(self, tokens: Sequence[int], layers: tuple[int, ...] | None, *, with_states: bool) -> Chunk:
        """The first tokens after a prompt that looks both ways: its last token sees all of it, whatever the window."""
        seen = torch.zeros(1, 1, 1, self.length + 1, dtype=self.model.dtype, device=self.inputs["input_ids"].device)
        chunks = [self._pass(tokens[:1], None, mask=seen, with_states=with_states)]
        if len(tokens) > 1:
            chunks.append(self._pass(tokens[1:], None, with_states=with_states))
        states = tuple(torch.cat(parts, dim=1) for parts in zip(*(chunk.states for chunk in chunks), strict=True))
        if layers is not None:
            return replace(self._whole_pass(tokens, layers), states=states)
        return Chunk(torch.cat([chunk.logits for chunk in chunks]), chunks[0].first_query, None, states)

    def _pass(
        self,
        tokens: Sequence[int],
        layers: tuple[int, ...] | None,
        *,
        entry: int = 0,
        mask: Tensor | None = None,
        with_states: bool = False,
    ) -> Chunk:
        first, count = self.length, len(tokens)
        ids = torch.tensor([list(tokens)], device=self.inputs["input_ids"].device)
        tape = Tape(layers) if layers is not None else None
        gained = row_gains(self.model, self.locore, first, count, self.prompt_length)
        inputs = {"input_ids": ids, "position_ids": self.positions(first, count)}
        seen = {name: value for name, value in self.inputs.items() if name in SEEN_PICTURES}
        inputs |= {name: continued(value, count) for name, value in seen.items()}
        if mask is not None:
            inputs["attention_mask"] = mask
        states: list[Tensor] | None = [] if with_states else None
        logits = cached_pass(self.model, self.cache, inputs, tape=tape, gains=gained, entry=entry, states=states)
        return Chunk(logits, first, tape, tuple(states or ()))

    def _whole_pass(self, tokens: Sequence[int], layers: tuple[int, ...]) -> Chunk:
        """The same without the cache: the last row of the prompt acts through all of it, and a cache is constant."""
        tape = Tape(layers, prefix=self.prompt_length)
        fed = [*tokens[1:], self.last_prompt_token]  # What the last row is asked about is not read.
        logits = run_whole(self.model, self.inputs, fed, tape, prompt_length=self.prompt_length, locore=self.locore)
        return Chunk(logits, self.prompt_length - 1, tape)

    def positions(self, first: int, count: int) -> Tensor:
        """``[1, count]`` positions, as the model counts, from a place on; ``[R, 1, count]`` where it has R rows."""
        return self.counted.following(first, count, self.inputs["input_ids"].device)

    def run_pieces(self, answer: Tensor, size: int, *, layers: tuple[int, ...]) -> Iterator[Chunk]:
        """The rows that predict an answer ``[N]`` right after the prompt, on tape, in pieces of at most ``size`` rows.

        What is known of the answer is reused. Where rows of one pass would mix, a piece is one row.
        """
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
        """Forget everything from position ``length`` on; a recurrent model all that follows its prompt."""
        kept = max(length - (self.prompt_length - 1), 0)
        del self.tokens[kept:], self.states[kept:]
        if length == self.length:
            return
        if self._begun is not None and length == self.prompt_length - 1:
            self.cache = copied(self._begun)
        elif length < self.length:
            truncate(self.cache, length)


def _same_pictures(inputs: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether all that two prompts hand to the model beside their texts is equal."""
    ids, other_ids = inputs["input_ids"], others["input_ids"]
    beside = {name: value for name, value in inputs.items() if position_axis(name, value, ids) is None}
    beside_other = {name: value for name, value in others.items() if position_axis(name, value, other_ids) is None}
    if beside.keys() != beside_other.keys():
        return False
    return all(
        isinstance(value, Tensor) and isinstance(beside_other[name], Tensor) and torch.equal(value, beside_other[name])
        for name, value in beside.items()
    )


def blank_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt's inputs with every picture uniform: zeros, after normalisation."""
    return {name: _uniform(name, value) if holds_pixels(name) else value for name, value in inputs.items()}


def _uniform(name: str, pixels: Tensor) -> Tensor:
    if name == "flattened_patches":  # Before the pixels of each patch stand its row and its column.
        return torch.cat([pixels[..., :2], torch.zeros_like(pixels[..., 2:])], dim=-1)
    if pixels.ndim != 5:
        return torch.zeros_like(pixels)
    # [1, pictures, ...] of Idefics and SmolVLM, which take a picture of zeros for none at all.
    shown = (pixels != 0).flatten(2).any(-1).view(*pixels.shape[:2], 1, 1, 1)
    return shown.to(pixels) * _ALMOST_ZERO * torch.ones_like(pixels)


_ALMOST_ZERO = 1e-4
"""As small as float16 holds with all its digits."""
