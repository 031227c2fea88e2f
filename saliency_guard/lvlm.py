"""LVLM: load, generate, stream, score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard import text as text_module
from saliency_guard.assembly import scored_tokens, with_signals, written_token
from saliency_guard.decoding import Decoder, eos_ids
from saliency_guard.errors import ContextLengthError, InputError, ModelError
from saliency_guard.grounding import GroundedAnswer, Step, TokenGrounding, Usage
from saliency_guard.layout import PromptLayout, find_texts, prompt_layout
from saliency_guard.loading import load_pretrained
from saliency_guard.locore import LocoREConfig
from saliency_guard.messages import MAX_IMAGE_PIXELS, Conversation, parse_messages
from saliency_guard.prompts import PromptCache
from saliency_guard.saliency import SaliencyConfig
from saliency_guard.sampling import sampling_rules
from saliency_guard.scoring import score_answer, score_continuation
from saliency_guard.sgrs import SGRSConfig
from saliency_guard.signals import compute, known
from saliency_guard.stopping import cut, may_have_begun, stop_strings, with_rest
from saliency_guard.trace import trace_continuation

Messages = Sequence[Mapping[str, Any]]

EMBEDDED = "embedded"
"""The name of the default model, which is part of the package."""

EMBEDDED_PATH = Path(__file__).parent / "embedded" / "model"


class LVLM:
    """A local vision-language model whose every token comes with what it rests on.

    Args:
        model: a transformers image-text-to-text model; it is left as it was after every call.
        processor: its processor, with a chat template.
        model_id: what to call it in results.
        require_image: whether messages without an image are refused.
        max_image_pixels: images with more pixels are refused.
        prompt_cache: how many of the prompts read last are kept with their keys and values, so that a retry
            of one, or scoring an answer to it, need not read it again; never changes a result. 0 keeps none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        *,
        model_id: str | None = None,
        require_image: bool = True,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        prompt_cache: int = 1,
    ) -> None:
        self.model = model
        self.processor = processor
        self.model_id = model_id or str(model.config.name_or_path or type(model).__name__)
        self._require_image = require_image
        self._max_image_pixels = max_image_pixels
        self._prompts = PromptCache(prompt_cache)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = EMBEDDED,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        revision: str | None = None,
        require_image: bool = True,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        prompt_cache: int = 1,
        **from_pretrained: Any,
    ) -> LVLM:
        """Load a model and its processor.

        Args:
            model: ``"embedded"`` (the default; no network), a local folder, or a hub id.
            device: where to put it; None is a GPU if there is one, else the CPU.
            dtype: a torch dtype, its name, or ``"auto"`` for the one the checkpoint names.
            revision: a hub branch, tag or commit.
            require_image: as for `LVLM`.
            max_image_pixels: as for `LVLM`.
            prompt_cache: as for `LVLM`.
            **from_pretrained: for transformers' ``from_pretrained``: ``quantization_config``,
                ``device_map`` (then ``device`` must be None), ``token``, ...

        Raises:
            ModelError: if there is no such model, or it is no image-text-to-text model.
        """
        source = EMBEDDED_PATH if model == EMBEDDED else model
        loaded, processor = load_pretrained(source, device, dtype, {"revision": revision}, from_pretrained)
        name = f"saliency-guard/{EMBEDDED}" if model == EMBEDDED else str(model)
        return cls(
            loaded,
            processor,
            model_id=name,
            require_image=require_image,
            max_image_pixels=max_image_pixels,
            prompt_cache=prompt_cache,
        )

    @property
    def context_length(self) -> int | None:
        """Positions that prompt and answer may take together; None where the config does not say."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(limit) if limit else None

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids after which an answer is over."""
        config = self.model.generation_config
        known = eos_ids(config.eos_token_id if config is not None else None)
        return known or eos_ids(self.tokenizer.eos_token_id)

    def inputs(self, messages: Messages) -> dict[str, Tensor]:
        """What the processor returns for messages, with the prompt for an answer at the end.

        Raises:
            MessageError: if the messages are malformed.
            ImageError: if there is no image, or one cannot be used.
            ModelError: if the processor has no chat template.
        """
        return self._inputs(self._parse(messages))

    def _parse(self, messages: Messages) -> Conversation:
        return parse_messages(messages, max_pixels=self._max_image_pixels, require_image=self._require_image)

    def _inputs(self, conversation: Conversation) -> dict[str, Tensor]:
        if not getattr(self.processor, "chat_template", None):
            msg = f"the processor of {self.model_id} has no chat template: set processor.chat_template"
            raise ModelError(msg)
        try:
            encoded = self.processor.apply_chat_template(
                [list(conversation.messages)],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        except (ValueError, TypeError, IndexError, TemplateError) as error:
            msg = f"the processor of {self.model_id} does not take these messages: {error}"
            raise InputError(msg) from error
        dtype = self.model.dtype
        return {
            name: (value.to(self.model.device, dtype) if value.is_floating_point() else value.to(self.model.device))
            for name, value in encoded.items()
            if isinstance(value, Tensor)
        }

    def _prompt(self, messages: Messages) -> tuple[dict[str, Tensor], PromptLayout]:
        conversation = self._parse(messages)
        inputs = self._inputs(conversation)
        layout = prompt_layout(self.model.config, inputs).for_images(len(conversation.images))
        if conversation.images and not any(name.startswith("pixel_values") for name in inputs):
            msg = f"the processor of {self.model_id} returned no pixel values: is it a tokenizer alone?"
            raise ModelError(msg)
        if all(one.source is None for one in conversation.texts):
            return inputs, layout
        pieces = text_module.pieces(self.tokenizer, inputs["input_ids"][0].tolist(), skip_special_tokens=False)
        return inputs, layout.named(find_texts(layout, pieces, [(one.source, one.text) for one in conversation.texts]))

    def _room(self, prompt: int, wanted: int) -> int:
        """How many tokens may follow a prompt."""
        limit = self.context_length
        if limit is None:
            return wanted
        if prompt >= limit:
            msg = (
                f"the prompt takes {prompt} positions and {self.model_id} holds {limit}: shorten the text, send "
                "fewer or smaller images, or use a model with a longer context"
            )
            raise ContextLengthError(msg, needed=prompt + 1, limit=limit)
        return min(wanted, limit - prompt)

    def generate(
        self,
        messages: Messages,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = (),
        sgrs: SGRSConfig | None = SGRSConfig(),
        locore: LocoREConfig | None = LocoREConfig(),
        saliency: SaliencyConfig | None = SaliencyConfig(),
        signals: Sequence[str] = (),
    ) -> GroundedAnswer:
        """Answer messages.

        Args:
            messages: chat messages with at least one image; see `messages`.
            max_new_tokens: the most tokens to write.
            temperature: 0 is greedy: candidates in order of probability.
            top_p: nucleus to sample from.
            seed: of the random numbers; the same seed gives the same answer. None draws one.
            stop: strings at which the answer ends; they are not part of it.
            sgrs: saliency-guided rejection; None is off.
            locore: local reinforcement of recent output; None is off.
            saliency: what to score; None (only without SGRS) scores nothing.
            signals: names of detection signals (see `saliency_guard.signals`) to give every token of the
                finished answer; they cost one more look at it.

        Raises:
            InputError: of the kinds `inputs` names, and `ContextLengthError`.
            ConfigError: if a setting is out of range.
            NonFiniteError: if the model returns NaN.
        """
        steps = self.stream(
            messages,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=stop,
            sgrs=sgrs,
            locore=locore,
            saliency=saliency,
            signals=signals,
        )
        answer = None
        for step in steps:
            answer = step.answer
        assert answer is not None  # noqa: S101 - a stream that ends without error ends with the answer
        return answer

    def stream(
        self,
        messages: Messages,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = (),
        sgrs: SGRSConfig | None = SGRSConfig(),
        locore: LocoREConfig | None = LocoREConfig(),
        saliency: SaliencyConfig | None = SaliencyConfig(),
        signals: Sequence[str] = (),
    ) -> Iterator[Step]:
        """As `generate`, token by token: every step has a ``token``, the last one the ``answer`` instead.

        Arguments are checked and the prompt is read before this returns; the model is untouched between
        steps, so the stream may be abandoned.
        """
        processor, seed = sampling_rules(max_new_tokens, temperature, top_p, seed)
        stops = stop_strings(stop)
        names = known(signals)
        inputs, layout = self._prompt(messages)
        room = self._room(layout.length, max_new_tokens)
        decoder = Decoder(
            session=self._prompts.session(self.model, inputs, locore=locore, layout=layout),
            sgrs=sgrs,
            saliency=saliency,
            processor=processor,
            seed=seed,
            eos=self.end_tokens,
        )

        def signalled(tokens: list[TokenGrounding]) -> list[TokenGrounding]:
            if not names or not tokens:
                return tokens
            ids = [token.token_id for token in tokens]
            trace = trace_continuation(decoder.session, ids, saliency or SaliencyConfig())
            return with_signals(tokens, compute(trace, names))

        return self._steps(decoder, room, stops, signalled)

    def _steps(
        self,
        decoder: Decoder,
        room: int,
        stops: tuple[str, ...],
        finished: Callable[[list[TokenGrounding]], list[TokenGrounding]] = list,
    ) -> Iterator[Step]:
        detokenizer = text_module.Detokenizer(self.tokenizer)
        done: list[TokenGrounding] = []
        held: list[TokenGrounding] = []  # Given out once no stop string can begin in them.
        reason: Literal["stop", "length"] = "length"
        complete = False
        for token in decoder.tokens(room):
            if token.token_id in decoder.eos:
                reason = "stop"
                break
            text = detokenizer.push(token.token_id)
            held.append(written_token(token, text, len(done) + len(held), self.tokenizer))
            held, complete = cut(held, stops)
            if complete:
                reason = "stop"
                break
            free = 0 if detokenizer.pending else len(held) - may_have_begun(held, stops)
            for ready in held[:free]:
                done.append(ready)
                yield Step(token=ready)
            held = held[free:]
        if not complete:
            held = with_rest(held, detokenizer.flush())
        for ready in held:
            done.append(ready)
            yield Step(token=ready)
        answer = self._answer(finished(done), reason, decoder.session.prompt_length)
        self._prompts.keep(decoder.session)
        yield Step(answer=answer)

    def _answer(
        self, tokens: Sequence[TokenGrounding], reason: Literal["stop", "length"], prompt: int
    ) -> GroundedAnswer:
        return GroundedAnswer(
            text="".join(token.text for token in tokens),
            tokens=tuple(tokens),
            finish_reason=reason,
            usage=Usage(prompt_tokens=prompt, completion_tokens=len(tokens), total_tokens=prompt + len(tokens)),
            model_id=self.model_id,
        )

    def score(
        self,
        messages: Messages,
        text: str,
        *,
        locore: LocoREConfig | None = None,
        saliency: SaliencyConfig = SaliencyConfig(),
        signals: Sequence[str] = (),
    ) -> GroundedAnswer:
        """Say of any text what each of its tokens would rest on, were it this model's answer.

        Args:
            messages: what the text answers.
            text: the answer, from anywhere.
            locore: the gains to score under; None is off.
            saliency: what to score.
            signals: as for `generate`.

        Raises:
            InputError: if the text is empty, or as for `generate`.
        """
        if not isinstance(text, str) or not text.strip():
            msg = "there is no answer to score: the text is empty"
            raise InputError(msg)
        names = known(signals)
        inputs, layout = self._prompt(messages)
        ids, pieces = text_module.encode(self.tokenizer, text)
        if self._room(layout.length, len(ids)) < len(ids):
            limit = self.context_length or 0
            msg = f"prompt ({layout.length} positions) and answer ({len(ids)}) do not fit the context of {limit}"
            raise ContextLengthError(msg, needed=layout.length + len(ids), limit=limit)
        trace = None
        if saliency.normalization == "matrix":
            scores = score_answer(self.model, inputs, ids, config=saliency, locore=locore, layout=layout)
        else:
            session = self._prompts.session(self.model, inputs, locore=locore, layout=layout)
            if names:
                trace = trace_continuation(session, ids, saliency)
                scores = trace.scores
            else:
                scores = score_continuation(session, ids, saliency)
            self._prompts.keep(session)
        tokens = scored_tokens(scores, ids, pieces)
        if trace is not None:
            tokens = with_signals(tokens, compute(trace, names))
        return self._answer(tokens, "stop", layout.length)
