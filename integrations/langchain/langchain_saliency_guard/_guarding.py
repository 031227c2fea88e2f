"""The steps of a guarded model call: ask the model, score its answer, ask again, decide.

The steps are the same for synchronous and asynchronous agents, which carry them out.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from langchain_saliency_guard._drafts import quiet
from langchain_saliency_guard._events import Event
from langchain_saliency_guard._grounding_events import progress, retry_event
from langchain_saliency_guard._judged import ShouldScore, judged_text, nothing_to_score
from langchain_saliency_guard._review import is_under_review
from langchain_saliency_guard.chat_models import SaliencyGuardedLVLM
from saliency_guard import Attempt, GroundedAnswer, GuardOutcome, GuardPolicy
from saliency_guard.adapters import (
    PICTURE_GONE,
    JudgedText,
    PlannedAttempt,
    PlannedAttempts,
    ReportDetail,
    empty_attempt,
    not_applicable,
    unscored_attempt,
)


@dataclass(frozen=True, slots=True)
class Action:
    """What to do next: call a model (``request``) or score an answer (``text``).

    Attributes:
        request: of the model call.
        text: the answer to score; where ``request`` is None.
        wait: seconds to sleep before it.
        events: to send before it.
    """

    request: ModelRequest | None = None
    text: JudgedText = field(default_factory=lambda: JudgedText(""))
    wait: float = 0.0
    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """The end of a guarded call.

    Attributes:
        outcome: what the policy decided.
        response: the response of the attempt it decided for.
        message: the answer in it.
        judged: the text of the answer that was judged.
        model: what wrote it.
        usage: tokens of all attempts together, where the models count them.
        number: of that attempt.
    """

    outcome: GuardOutcome
    response: ModelResponse
    message: AIMessage
    judged: str
    model: Any
    usage: UsageMetadata | None
    number: int


Guarding = Generator[Action, Any, Decided | ModelResponse]
"""Yields the actions in order; send in the result of each: a `ModelResponse`, or a scored answer or an attempt.

Returns the decision; a response without any message of the model as it is.
"""


@dataclass(slots=True)
class _Response:
    """A model's response, and the answer in it."""

    response: ModelResponse
    message: AIMessage
    text: JudgedText | None
    model: Any


@dataclass(frozen=True, slots=True)
class GuardedCall:
    """A model call under a policy.

    Attributes:
        request: of the agent.
        policy: decides.
        fallback_model: asked when no answer is good enough; None is no such model.
        should_score: whether an answer is to be scored.
        report: how much events hold.
        messages: what is answered, in the core's form; None where there is no picture to judge by any more.
        trouble: why the scorer cannot read them; None where it can.
        first: number of the first attempt.
    """

    request: ModelRequest
    policy: GuardPolicy
    fallback_model: BaseChatModel | None
    should_score: ShouldScore | None
    report: ReportDetail
    messages: list[dict[str, Any]] | None
    trouble: str | None
    first: int
    _responses: list[_Response] = field(default_factory=list)

    def steps(self) -> Guarding:
        """The steps; see `Guarding`.

        Raises:
            LowGroundingError: by the policy.
            ConfigError: if the retry plan changes what the model does not have.
        """
        plan = self._plan()
        planned = next(plan)
        events: list[Event] = []
        while True:
            request = self._attempt(planned)
            number = len(self._responses)
            events = [*events, progress(number, "writing")]
            response: ModelResponse = yield Action(request=request, wait=planned.wait, events=events)
            message = next((part for part in reversed(response.result) if isinstance(part, AIMessage)), None)
            if message is None or is_under_review(message):
                return response
            given = _Response(
                response, message, judged_text(message, response.structured_response), self._model(planned)
            )
            reason = nothing_to_score(
                self.request.messages,
                self.request,
                message,
                given.text,
                should_score=self.should_score,
                saw_picture=True,
            )
            self._responses.append(given)
            if reason is not None:
                return self._end(not_applicable(message.text, reason, self.policy), given)
            result: GroundedAnswer | Attempt = yield from self._judged(given.text or JudgedText(""))
            if isinstance(result, Attempt) and result.reason is not None and len(self._responses) == 1:
                # Another attempt would not be judged either.
                return self._end(self.policy.decide((result,), self.messages), given)
            try:
                planned = plan.send(result)
            except StopIteration as end:
                outcome: GuardOutcome = end.value
                return self._end(outcome, self._responses[-1 if outcome.chosen is None else outcome.chosen])
            attempt = result if isinstance(result, Attempt) else self.policy.judge(result)
            events = [] if attempt.accepted else [retry_event(len(self._responses) - 1, attempt, self.report)]

    def _judged(self, text: JudgedText) -> Generator[Action, Any, GroundedAnswer | Attempt]:
        if not text.text:
            return empty_attempt()
        if self.trouble is not None or self.messages is None:
            return unscored_attempt(text.text, self.trouble or PICTURE_GONE)
        events = [progress(len(self._responses) - 1, "judging")]
        result: GroundedAnswer | Attempt = yield Action(text=text, events=events)
        return result

    def _plan(self) -> PlannedAttempts:
        model, settings = self.request.model, self.request.model_settings
        return self.policy.planned_attempts(
            self.messages,
            temperature=settings.get("temperature", getattr(model, "temperature", None)),
            seed=getattr(model, "seed", None),
            sgrs=getattr(model, "sgrs", None),
            locore=getattr(model, "locore", None),
            first=self.first,  # A retry requested by a person also takes a new seed.
            has_fallback=self.fallback_model is not None,
            asks_again="temperature" not in type(model).model_fields,
        )

    def _model(self, planned: PlannedAttempt) -> Any:
        """The model of an attempt, with its own callbacks."""
        return self.fallback_model if planned.is_fallback else self.request.model

    def _attempt(self, planned: PlannedAttempt) -> ModelRequest:
        """The request of an attempt, whose model is heard by nobody."""
        if planned.is_fallback:
            return self.request.override(model=quiet(self._model(planned)))
        settings = dict(planned.settings)
        # A cache would give the refused answer again.
        changes = {"cache": False} if planned.number else {}
        if not isinstance(self.request.model, SaliencyGuardedLVLM):
            settings.pop("seed", None)  # Not every model takes a seed.
        retry_request = [HumanMessage(planned.request)] if planned.request else []
        return self.request.override(
            model=quiet(self._model(planned), **changes),
            messages=[*self.request.messages, *retry_request],
            model_settings={**self.request.model_settings, **settings},
        )

    def _end(self, outcome: GuardOutcome, given: _Response) -> Decided:
        usage: UsageMetadata | None = None
        for response in self._responses:
            usage = add_usage(usage, response.message.usage_metadata)
        known = usage if any(response.message.usage_metadata for response in self._responses) else None
        judged = given.text.text if given.text is not None else ""
        number = next(number for number, response in enumerate(self._responses) if response is given)
        return Decided(outcome, given.response, given.message, judged, given.model, known, number)
