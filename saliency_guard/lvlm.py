"""LVLM: load, generate, stream, score."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.answer import GroundedAnswer, Step
from saliency_guard.answering import AnswerMaker
from saliency_guard.calibration.calibrator import CALIBRATOR_FILE, Calibrator
from saliency_guard.calibration.fingerprint import fingerprint
from saliency_guard.chat import detokenize as text_module
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.chat.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
from saliency_guard.chat.template import Messages, Prompt, PromptReader
from saliency_guard.decoding.assembly import scored_tokens, whole_answer
from saliency_guard.decoding.decoder import eos_ids
from saliency_guard.decoding.json_schema import SchemaMask
from saliency_guard.decoding.plan import Plan
from saliency_guard.decoding.sampling import at_least_one, one_for_each, sampling_rules
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.decoding.stop_strings import stop_strings
from saliency_guard.embedded import EMBEDDED, EMBEDDED_PATH
from saliency_guard.errors import CalibrationMismatchError, ConfigError, InputError
from saliency_guard.models.load import load_pretrained
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.saliency.equations import SaliencyConfig
from saliency_guard.saliency.scoring import score_answer
from saliency_guard.signals import known


class LVLM:
    """A local vision-language model whose every token comes with what it rests on.

    Args:
        model: a transformers image-text-to-text model; it is left as it was after every call.
        processor: its processor, with a chat template.
        model_id: what to call it in results.
        require_image: whether messages without an image are refused.
        max_image_pixels: images with more pixels are refused.
        max_image_bytes: images of more bytes, as files or encoded, are refused.
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
        max_image_bytes: int = MAX_IMAGE_BYTES,
        prompt_cache: int = 1,
    ) -> None:
        self.model = model
        self.processor = processor
        self.model_id = model_id or str(model.config.name_or_path or type(model).__name__)
        self._reader = PromptReader(
            model,
            processor,
            self.model_id,
            require_image=require_image,
            max_image_pixels=at_least_one("max_image_pixels", max_image_pixels),
            max_image_bytes=at_least_one("max_image_bytes", max_image_bytes),
        )
        self._prompts = PromptCache(prompt_cache)
        self._answers = AnswerMaker(self.model_id, self._prompts)

    def with_calibrator(self, calibrator: Calibrator | None, *, allow_mismatch: bool = False) -> LVLM:
        """The same model, whose answers have a ``grounding`` where they are looked at as the calibration was fitted.

        Args:
            calibrator: fitted for this model; None leaves grounding open.
            allow_mismatch: take one that was fitted for another model, and mark every result as not calibrated.

        Raises:
            CalibrationMismatchError: if it was fitted for another model, other weights or another prompt template.
        """
        fits = False
        if calibrator is not None:
            own = fingerprint(self.model, self.processor, self.model_id, calibrator.fingerprint.saliency)
            fits = not calibrator.fingerprint.differing(own)
            if not allow_mismatch:
                calibrator.require(own)
        other = copy.copy(self)
        other._answers = AnswerMaker(self.model_id, self._prompts, calibrator, fits)
        return other

    def with_tools(self, tools: Sequence[Mapping[str, Any]]) -> LVLM:
        """The same model, whose prompts tell of tools: by the chat template, or in words where that knows none.

        Args:
            tools: as JSON schemas of functions, the form that transformers' chat templates take (anything else is a
                `ConfigError`); none forgets them.
        """
        other = copy.copy(self)
        other._reader = self._reader.with_tools(tools)
        return other

    @property
    def calibrator(self) -> Calibrator | None:
        """What judges the answers; the embedded model has its own."""
        return self._answers.calibrator

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
        max_image_bytes: int = MAX_IMAGE_BYTES,
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
            max_image_bytes: as for `LVLM`.
            prompt_cache: as for `LVLM`.
            **from_pretrained: for transformers' ``from_pretrained``: ``quantization_config``,
                ``device_map`` (then ``device`` must be None), ``token``, ...

        Raises:
            ModelError: if there is no such model, or it is no image-text-to-text model.
        """
        source = EMBEDDED_PATH if model == EMBEDDED else model
        loaded, processor = load_pretrained(source, device, dtype, {"revision": revision}, from_pretrained)
        name = f"saliency-guard/{EMBEDDED}" if model == EMBEDDED else str(model)
        limits = {"max_image_pixels": max_image_pixels, "max_image_bytes": max_image_bytes}
        lvlm = cls(loaded, processor, model_id=name, require_image=require_image, prompt_cache=prompt_cache, **limits)
        own = Path(source, CALIBRATOR_FILE)
        try:
            return lvlm.with_calibrator(Calibrator.load(own)) if own.is_file() else lvlm
        except CalibrationMismatchError as error:  # Another precision, weights trained on: grounding stays open.
            warnings.warn(f"{own} is left out: {error}", stacklevel=2)
            return lvlm

    @property
    def context_length(self) -> int | None:
        """Positions that prompt and answer may take together; None where the config does not say."""
        return self._reader.context_length

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self._reader.tokenizer

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
        return self._reader.inputs(messages)

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
        json_schema: Mapping[str, Any] | None = None,
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
            json_schema: the answer is JSON of this schema (unless ``max_new_tokens`` cuts it short).

        Raises:
            InputError: of the kinds `inputs` names, and `ContextLengthError`.
            ConfigError: if a setting is out of range, or the schema cannot be used.
            MissingExtraError: if ``json_schema`` needs the extra ``structured``.
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
            json_schema=json_schema,
        )
        return cast("GroundedAnswer", list(steps)[-1].answer)  # A stream that ends without error ends with it.

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
        json_schema: Mapping[str, Any] | None = None,
    ) -> Iterator[Step]:
        """As `generate`, token by token: every step has a ``token``, the last one the ``answer`` instead.

        Groundings come with the answer. Arguments are checked and the prompt is read before this returns; the
        model is untouched between steps, so the stream may be abandoned.
        """
        rules = sampling_rules(max_new_tokens, temperature, top_p, seed)
        plan = Plan(*rules, stop_strings(stop), sgrs, saliency, known(signals))
        inputs, layout = self._reader.prompt(messages)
        room = self._reader.room(layout.length, max_new_tokens)
        if json_schema is not None:
            plan = plan.held_to(SchemaMask(json_schema, self.tokenizer, self.end_tokens, layout.length))
        session = self._prompts.session(self.model, inputs, locore=locore, layout=layout)
        return self._answers.write(plan, session, room, tokenizer=self.tokenizer, eos=self.end_tokens)

    def generate_batch(
        self,
        batch: Sequence[Messages],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | Sequence[int] | None = None,
        stop: str | Sequence[str] | None = (),
        sgrs: SGRSConfig | None = SGRSConfig(),
        locore: LocoREConfig | None = LocoREConfig(),
        saliency: SaliencyConfig | None = SaliencyConfig(),
        signals: Sequence[str] = (),
        json_schema: Mapping[str, Any] | None = None,
        batch_size: int = 8,
    ) -> list[GroundedAnswer]:
        """Answer several messages side by side; each answer is the one that `generate` gives.

        Args:
            batch: messages of each.
            max_new_tokens: as for `generate`, with what follows.
            temperature: as for `generate`.
            top_p: as for `generate`.
            seed: one for all (equal messages then get equal answers), or one for each.
            stop: as for `generate`.
            sgrs: as for `generate`.
            locore: as for `generate`.
            saliency: as for `generate`.
            signals: as for `generate`.
            json_schema: as for `generate`, of every answer.
            batch_size: how many at a time; memory for keys and values grows with it.

        Raises:
            ConfigError: also if there are not as many seeds as messages. Otherwise as `generate`; nothing is
                answered if one of the messages is no good.
        """
        seeds = one_for_each(seed, len(batch))
        size = at_least_one("batch_size", batch_size)
        stops, names = stop_strings(stop), known(signals)
        rules = [sampling_rules(max_new_tokens, temperature, top_p, one) for one in seeds]
        prompts = [self._reader.prompt(messages) for messages in batch]
        plans = [Plan(*rule, stops, sgrs, saliency, names) for rule in rules]
        if json_schema is not None:
            masks = [SchemaMask(json_schema, self.tokenizer, self.end_tokens, one.length) for _, one in prompts]
            plans = [plan.held_to(mask) for plan, mask in zip(plans, masks, strict=True)]
        rooms = [self._reader.room(layout.length, max_new_tokens) for _, layout in prompts]
        answers: list[GroundedAnswer] = []
        for start in range(0, len(prompts), size):
            part = slice(start, start + size)
            sessions = self._prompts.sessions(self.model, prompts[part], locore=locore)
            answers += self._answers.write_together(
                plans[part], sessions, rooms[part], tokenizer=self.tokenizer, eos=self.end_tokens
            )
        return answers

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
        names = known(signals)
        prompt, answer = self._to_score(messages, text)
        if saliency.normalization == "matrix" and not names:
            inputs, layout = prompt
            scores = score_answer(self.model, inputs, answer.ids, config=saliency, locore=locore, layout=layout)
            return whole_answer(scored_tokens(scores, answer.ids, answer.pieces), "stop", layout.length, self.model_id)
        session = self._prompts.sessions(self.model, [prompt], locore=locore)[0]
        return self._answers.scored([session], [answer], saliency, names)[0]

    def score_batch(
        self,
        batch: Sequence[tuple[Messages, str]],
        *,
        locore: LocoREConfig | None = None,
        saliency: SaliencyConfig = SaliencyConfig(),
        signals: Sequence[str] = (),
        batch_size: int = 8,
    ) -> list[GroundedAnswer]:
        """Score several answers side by side; each comes out as from `score`.

        A prompt that several of them answer is read once.

        Args:
            batch: messages and answer of each.
            locore: as for `score`.
            saliency: as for `score`, with the norm of the row.
            signals: as for `score`.
            batch_size: as for `generate_batch`.

        Raises:
            ConfigError: for ``normalization="matrix"``.
            InputError: as `score`; nothing is scored if one of the pairs is no good.
        """
        names = known(signals)
        size = at_least_one("batch_size", batch_size)
        if saliency.normalization == "matrix":
            msg = 'normalization="matrix" takes a backward pass per token: use score, one answer at a time'
            raise ConfigError(msg)
        pairs = [self._to_score(messages, text) for messages, text in batch]
        answers: list[GroundedAnswer] = []
        for start in range(0, len(pairs), size):
            part = pairs[start : start + size]
            sessions = self._prompts.sessions(self.model, [prompt for prompt, _ in part], locore=locore)
            answers += self._answers.scored(sessions, [answer for _, answer in part], saliency, names)
        return answers

    def _to_score(self, messages: Messages, text: str) -> tuple[Prompt, EncodedText]:
        if not isinstance(text, str) or not text.strip():
            msg = "there is no answer to score: the text is empty"
            raise InputError(msg)
        inputs, layout = self._reader.prompt(messages)
        answer = text_module.encode(self.tokenizer, text)
        self._reader.require_room(layout.length, len(answer.ids))
        return (inputs, layout), answer
