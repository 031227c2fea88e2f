"""LVLM: load, generate, stream, score."""

from __future__ import annotations

import copy
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.answer import GroundedAnswer, Step
from saliency_guard.answer_builder import AnswerBuilder, unjudged_answer, unscored_tokens, with_scores
from saliency_guard.async_answers import AsyncAnswers
from saliency_guard.batching.calls import WritingCall
from saliency_guard.batching.rounds import advance, answer_together
from saliency_guard.batching.scheduler import DEFAULT_BATCH_SIZE, DEFAULT_QUEUE_SIZE, Scheduler
from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.sharing import CalibratorIn, calibrator_beside, fits, read_calibrator
from saliency_guard.chat.detokenize import AnswerText
from saliency_guard.chat.images import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
from saliency_guard.chat.role_markers import RoleMarkersIn
from saliency_guard.chat.template import Messages, PreparedPrompt, PromptReader
from saliency_guard.claim_judge import OTHER_SALIENCY
from saliency_guard.copies import CopiedWithModel
from saliency_guard.decoding.decoder import eos_ids
from saliency_guard.decoding.options import (
    Deadline,
    GenerationOptions,
    ScoringOptions,
    at_least_one,
    generation_plans,
    scoring_plan,
)
from saliency_guard.embedded import EMBEDDED, EMBEDDED_PATH
from saliency_guard.errors import CalibrationMismatchError
from saliency_guard.models.fork_safety import ForkSafeLock, require_device, uninterrupted
from saliency_guard.models.load import load_pretrained
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.models.supported import require_readable
from saliency_guard.saliency.scoring import score_answer
from saliency_guard.viewer import require_explainable


class LVLM(AsyncAnswers, CopiedWithModel):
    """A local vision-language model whose every token comes with what it rests on.

    Args:
        model: a transformers image-text-to-text model; it is left as it was after every call.
        processor: its processor, with a chat template.
        model_id: what to call it in results.
        require_image: whether messages without an image are refused.
        max_image_pixels: images with more pixels are refused.
        max_image_bytes: images of more bytes, as files or encoded, are refused.
        prompt_cache: how many of the prompts read last are kept with their keys and values, for retries and scoring.
        role_markers: what to do with headers of the chat template in messages that are plain text, as ``USER:``:
            ``"keep"`` them, ``"escape"`` them by a zero-width space, or ``"refuse"`` the messages.
        calibrator: what judges the answers: a `Calibrator`, its file, or a hub id; see `with_calibrator`.
        batch_size: how many concurrent calls are answered side by side; memory for keys and values grows with it.
        queue_size: how many calls may be answered or wait at one time; one more is a `QueueFullError`.

    Raises:
        UnsupportedModelError: if it is no causal decoder that looks at the picture along its own sequence.
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
        role_markers: RoleMarkersIn = "keep",
        calibrator: CalibratorIn | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        queue_size: int = DEFAULT_QUEUE_SIZE,
    ) -> None:
        require_readable(model)
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
            role_markers=role_markers,
        )
        self._prompts = PromptCache(prompt_cache)
        self._preparing = ForkSafeLock("preparing a prompt")
        self._scheduler = Scheduler(
            advance, at_least_one("batch_size", batch_size), at_least_one("queue_size", queue_size)
        )
        self._calibrator = read_calibrator(calibrator)
        self._fits = fits(self._calibrator, model, processor, self.model_id)

    def with_calibrator(self, calibrator: CalibratorIn | None, *, allow_mismatch: bool = False) -> LVLM:
        """The same model, whose answers have a ``grounding`` where they are looked at as the calibration was fitted.

        Args:
            calibrator: fitted for this model: itself, its file, or a hub id; None leaves grounding open.
            allow_mismatch: take one that was fitted for another model, and mark every result as not calibrated.

        Raises:
            CalibrationMismatchError: if it was fitted for another model, other weights or another prompt template.
            InputError: if it cannot be read.
        """
        other = copy.copy(self)
        other._calibrator = read_calibrator(calibrator)
        other._fits = fits(other._calibrator, self.model, self.processor, self.model_id, allow_mismatch=allow_mismatch)
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
    def reader(self) -> PromptReader:
        """Reads messages for this model."""
        return self._reader

    @property
    def calibrator(self) -> Calibrator | None:
        """What judges the answers; the embedded model has its own."""
        return self._calibrator

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
        role_markers: RoleMarkersIn = "keep",
        calibrator: CalibratorIn | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        **from_pretrained: Any,
    ) -> LVLM:
        """Load a model and its processor.

        Nothing that comes with a model is run or unpickled, unless ``trust_remote_code=True`` or
        ``use_safetensors=False`` says so.

        Args:
            model: ``"embedded"`` (the default; no network), a local folder, or a hub id.
            device: where to put it; None is a GPU if there is one, else the CPU.
            dtype: a torch dtype, its name, or ``"auto"`` for the one the checkpoint names.
            revision: a hub branch, tag or commit.
            require_image: as for `LVLM`.
            max_image_pixels: as for `LVLM`.
            max_image_bytes: as for `LVLM`.
            prompt_cache: as for `LVLM`.
            role_markers: as for `LVLM`.
            calibrator: as for `LVLM`; None takes the one in the model's folder, if it fits.
            batch_size: as for `LVLM`.
            queue_size: as for `LVLM`.
            **from_pretrained: for transformers' ``from_pretrained``: ``quantization_config``,
                ``device_map`` (then ``device`` must be None), ``token``, ...

        Raises:
            ModelError: if there is no such model, it is no image-text-to-text model, its files cannot be used, or it
                has to be run or unpickled.
            InputError: if the calibration cannot be read, or is none.
            CalibrationMismatchError: if ``calibrator`` was fitted for another model.
        """
        source = EMBEDDED_PATH if model == EMBEDDED else model
        chosen = read_calibrator(calibrator, from_pretrained) or calibrator_beside(source)
        loaded, processor = load_pretrained(source, device, dtype, {"revision": revision}, from_pretrained)
        name = f"saliency-guard/{EMBEDDED}" if model == EMBEDDED else str(model)
        limits: dict[str, Any] = {
            "require_image": require_image,
            "max_image_pixels": max_image_pixels,
            "max_image_bytes": max_image_bytes,
            "prompt_cache": prompt_cache,
            "role_markers": role_markers,
            "batch_size": batch_size,
            "queue_size": queue_size,
        }
        lvlm = cls(loaded, processor, model_id=name, **limits)
        try:
            return lvlm.with_calibrator(chosen)
        except CalibrationMismatchError as error:  # Another precision, weights trained on: grounding stays open.
            if calibrator is not None:
                raise
            warnings.warn(f"the calibration in {source} is left out: {error}", stacklevel=2)
            return lvlm

    @property
    def _builder(self) -> AnswerBuilder:
        return AnswerBuilder(self.model_id, self._reader, self._prompts, self.end_tokens, self._calibrator, self._fits)

    @property
    def _prepares_beside(self) -> bool:
        return self.model.device.type != "cpu"  # Where threads beside the working one would only take its cores.

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
        require_device(self.model.device)
        with uninterrupted():
            return self._reader.inputs(messages)

    def prepare(self, messages: Messages | PreparedPrompt) -> PreparedPrompt:
        """Messages checked, their pictures loaded, and the chat template applied; accepted wherever messages are.

        Raises:
            InputError: of the kinds `inputs` names.
        """
        require_device(self.model.device)
        if isinstance(messages, PreparedPrompt):
            return messages
        # One after the other: threads that all hold the interpreter in turns would keep an event loop waiting.
        with self._preparing, uninterrupted():
            return self._reader.prepare(messages)

    def generate(
        self,
        messages: Messages | PreparedPrompt,
        *,
        cancel: threading.Event | None = None,
        **options: Unpack[GenerationOptions],
    ) -> GroundedAnswer:
        """Answer messages; calls from several threads are answered side by side, each as it would be alone.

        Args:
            messages: chat messages with at least one image (see `saliency_guard.chat.messages`), or what `prepare`
                made of them.
            cancel: stops the work once it is set.
            **options: see `GenerationOptions`; all may be left out.

        Raises:
            InputError: of the kinds `inputs` names, and `ContextLengthError`.
            ConfigError: if an option is unknown or out of range, or the schema cannot be used.
            MissingExtraError: if ``json_schema`` needs the extra ``structured``.
            NonFiniteError: if the model returns NaN.
            DeadlineError: if ``timeout`` passes.
            CancelledError: if ``cancel`` is set.
            QueueFullError: if too many calls wait already.
        """
        *_, last = self._steps(messages, options, live=False, cancel=cancel)
        return cast("GroundedAnswer", last.answer)  # A stream that ends without error ends with it.

    def stream(
        self,
        messages: Messages | PreparedPrompt,
        *,
        cancel: threading.Event | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Iterator[Step]:
        """As `generate`, token by token: every step has a ``token``, the last one the ``answer`` instead.

        Groundings and signals come with the answer. Options are checked and the prompt is read before this returns;
        the model is untouched between steps (unless other calls use it), so the stream may be abandoned.
        """
        return self._steps(messages, options, live=True, cancel=cancel)

    def generate_batch(
        self,
        batch: Sequence[Messages | PreparedPrompt],
        *,
        batch_size: int = 8,
        **options: Unpack[GenerationOptions],
    ) -> list[GroundedAnswer]:
        """Answer several messages side by side; each answer is the one that `generate` gives.

        Args:
            batch: messages of each, or what `prepare` made of them.
            batch_size: how many at a time; memory for keys and values grows with it.
            **options: as for `generate`; ``seed`` is one for all, or one for each.

        Raises:
            ConfigError: also if there are not as many seeds as messages. Otherwise as `generate`, before any answer.
        """
        size = at_least_one("batch_size", batch_size)
        plans = generation_plans(options, len(batch))
        deadline = Deadline(plans[0].options["timeout"] if plans else None)
        calls = [WritingCall(self._builder, plan, deadline, live=False) for plan in plans]
        for call, messages in zip(calls, batch, strict=True):
            call.take(self.prepare(messages))
        parts = [calls[start : start + size] for start in range(0, len(calls), size)]
        return [answer for part in parts for answer in answer_together(part)]

    def score(
        self,
        messages: Messages | PreparedPrompt,
        text: AnswerText,
        *,
        cancel: threading.Event | None = None,
        **options: Unpack[ScoringOptions],
    ) -> GroundedAnswer:
        """Say of any text what each of its tokens would rest on, were it this model's answer.

        Args:
            messages: what the text answers, or what `prepare` made of it.
            text: the answer, from anywhere; or its token ids, from an engine with the same tokenizer.
            cancel: stops the work once it is set, for the norm of the row.
            **options: see `ScoringOptions`; all may be left out.

        Raises:
            InputError: if the text is empty or holds a control token that cannot be text, or as for `generate`.
            ConfigError: if an option is unknown or of the wrong kind.
            CancelledError: if ``cancel`` is set.
            QueueFullError: if too many calls wait already.
        """
        plan = scoring_plan(options)
        if plan.saliency.normalization == "matrix" and not plan.signals:
            prepared, answer = self._to_score(messages, text)
            layout = prepared.layout
            scores = score_answer(
                self.model, prepared.inputs, answer.ids, saliency=plan.saliency, locore=plan.locore, layout=layout
            )
            tokens = with_scores(unscored_tokens(answer), scores)
            return unjudged_answer(
                tokens, "stop", layout.length, self.model_id, layout.unlocated, reason=OTHER_SALIENCY
            )
        return self._scored(messages, text, plan, cancel)

    def explain(self, messages: Messages | PreparedPrompt, answer: GroundedAnswer) -> GroundedAnswer:
        """The same answer with everything its page shows: where each token looks, layer by layer, and alternatives.

        The answer is traced as the plain model sees it, without SGRS and LocoRE, in the caller's thread.

        Args:
            messages: what it answers, or what `prepare` made of them.
            answer: of this model, written or scored by it.

        Raises:
            InputError: if the answer is empty or of another model, or as for `generate`.
        """
        prepared = self.prepare(messages)
        require_explainable(answer, self.model_id, prepared)
        self._reader.require_room(prepared.length, len(answer.tokens))
        with uninterrupted():
            return self._builder.explained(prepared, answer)

    def score_batch(
        self,
        batch: Sequence[tuple[Messages | PreparedPrompt, AnswerText]],
        *,
        batch_size: int = 8,
        **options: Unpack[ScoringOptions],
    ) -> list[GroundedAnswer]:
        """Score several answers side by side; each comes out as from `score`.

        A prompt that several of them answer is read once.

        Args:
            batch: messages (or what `prepare` made of them) and answer of each.
            batch_size: as for `generate_batch`.
            **options: as for `score`, with the norm of the row.

        Raises:
            ConfigError: also for ``normalization="matrix"``.
        """
        parts = self._score_parts(batch, scoring_plan(options), batch_size=batch_size)
        return [answer for answers in parts for answer in answers]
