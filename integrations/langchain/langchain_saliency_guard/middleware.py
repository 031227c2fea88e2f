"""GroundingMiddleware: an agent's answers are retried, replaced, flagged, refused, or shown to a person first."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage

from langchain_saliency_guard._messages import has_picture
from langchain_saliency_guard._report import GROUNDING
from langchain_saliency_guard._scoring import ChatScorer, says_something, with_report
from langchain_saliency_guard.chat_models import SaliencyGuardedLVLM
from saliency_guard import GroundedAnswer, GuardOutcome, GuardPolicy
from saliency_guard.adapters import (
    EMBEDDED,
    PlannedAttempt,
    ScorerModel,
    answer_report,
    remember_prompts,
    require_extra,
)

require_extra("langchain", "langchain", "agents")

from langchain.agents.middleware import (  # noqa: E402 - an extra
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.middleware.types import OmitFromInput  # noqa: E402 - an extra
from langchain.chat_models import init_chat_model  # noqa: E402 - an extra
from langgraph.types import Command, interrupt  # noqa: E402 - an extra

OnLow = Literal["flag", "raise", "interrupt"]
_REJECTED = "I cannot give an answer that rests on the picture."


class GroundingState(AgentState[Any]):
    """An agent's state with the reports of its answers, oldest first."""

    grounding: NotRequired[Annotated[list[dict[str, Any]], OmitFromInput, operator.add]]


@dataclass(frozen=True, slots=True)
class _Ask:
    """The next step: ask a model, or score an answer."""

    request: ModelRequest | None = None
    text: str = ""
    wait: float = 0.0


_Step = _Ask | ModelResponse | ExtendedModelResponse
_Plan = Generator[_Ask, Any, ModelResponse | ExtendedModelResponse]


class GroundingMiddleware(AgentMiddleware[GroundingState, Any]):
    """Guards what an agent says about pictures.

    Every answer of the model (not its tool calls, and not answers to chats without a picture) is scored. A refused
    answer is written again as often as the policy says, then by the fallback model, and then flagged, raised or
    shown to a person. The message has ``response_metadata["grounding"]``, and the agent's state ``grounding``, the
    reports of all answers. Drafts are not streamed.

    Where a person decides (``on_low="interrupt"``; the agent needs a checkpointer), resume with
    ``Command(resume={"type": ...})``: ``"approve"``; ``"edit"`` with ``"text"``; ``"retry"``; ``"reject"``, perhaps
    with a ``"message"``. What is approved is what was shown.

    Args:
        policy: decides, and says how often to retry.
        scorer: scores answers of models other than `SaliencyGuardedLVLM`; see `GroundingGuard`.
        fallback_model: called when no answer of the agent's model is good enough; a text is for `init_chat_model`.
        on_low: what to do when its answer is not good enough either, or there is no such model; None is ``"raise"``
            where the policy says so, else ``"flag"``.
    """

    state_schema = GroundingState

    def __init__(
        self,
        policy: GuardPolicy,
        *,
        scorer: ScorerModel = EMBEDDED,
        fallback_model: BaseChatModel | str | None = None,
        on_low: OnLow | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.fallback_model = init_chat_model(fallback_model) if isinstance(fallback_model, str) else fallback_model
        self.on_low: OnLow = on_low or ("raise" if policy.on_low == "raise" else "flag")
        self._scorer = ChatScorer(scorer)

    def wrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
    ) -> ModelResponse | ExtendedModelResponse:
        """Ask the model until an answer is good enough or nothing is left to try.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if no answer is good enough.
        """
        if not has_picture(request.messages):
            return handler(request)
        scorer = self._scorer_for(request)
        with remember_prompts() as prompts:
            messages = prompts.messages(_messages(request), scorer.core_messages)
            plan = self._plan(request, messages)
            step: _Step = next(plan)
            while isinstance(step, _Ask):
                result: ModelResponse | GroundedAnswer
                time.sleep(step.wait)
                if step.request is not None:
                    result = handler(step.request)
                else:
                    result = scorer.score(prompts.prompt(scorer.lvlm, messages), step.text, self.policy)
                step = _after(plan, result)
            return step

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse | ExtendedModelResponse:
        """As `wrap_model_call`; scoring does not block the event loop."""
        if not has_picture(request.messages):
            return await handler(request)
        scorer = self._scorer_for(request)
        with remember_prompts() as prompts:
            messages = await asyncio.to_thread(prompts.messages, _messages(request), scorer.core_messages)
            plan = self._plan(request, messages)
            step: _Step = next(plan)
            while isinstance(step, _Ask):
                result: ModelResponse | GroundedAnswer
                await asyncio.sleep(step.wait)
                if step.request is not None:
                    result = await handler(step.request)
                else:
                    lvlm = await asyncio.to_thread(lambda: scorer.lvlm)
                    prompt = await asyncio.to_thread(prompts.prompt, lvlm, messages)
                    result = await scorer.ascore(prompt, step.text, self.policy)
                step = _after(plan, result)
            return step

    def _scorer_for(self, request: ModelRequest) -> ChatScorer:
        return ChatScorer(request.model) if isinstance(request.model, SaliencyGuardedLVLM) else self._scorer

    def _plan(self, request: ModelRequest, messages: list[dict[str, Any]]) -> _Plan:
        """The steps, in order: send in the result of each; it returns the response of the model."""
        low = "raise" if self.on_low == "raise" else "flag"
        reports: Any = request.state.get("grounding") or ()
        plan = self.policy.model_copy(update={"on_low": low}).planned_attempts(
            messages,
            temperature=request.model_settings.get("temperature") or getattr(request.model, "temperature", None),
            seed=getattr(request.model, "seed", None),
            sgrs=getattr(request.model, "sgrs", None),
            locore=getattr(request.model, "locore", None),
            # A retry that a person asks for takes another seed, too.
            first=sum(report["decision"] == "retried" for report in reports),
            has_fallback=self.fallback_model is not None,
        )
        responses: list[ModelResponse] = []
        planned = next(plan)
        while True:
            response: ModelResponse = yield _Ask(self._request(request, planned), wait=planned.wait)
            message = _answer(response)
            if message is None:
                return response
            responses.append(response)
            scored: GroundedAnswer = yield _Ask(text=message.text)
            try:
                planned = plan.send(scored)
            except StopIteration as end:
                outcome: GuardOutcome = end.value
                return _response(outcome, responses[outcome.chosen or 0])

    def _request(self, request: ModelRequest, planned: PlannedAttempt) -> ModelRequest:
        """The request of an attempt."""
        if planned.is_fallback and self.fallback_model is not None:
            return request.override(model=_quiet(self.fallback_model))
        settings = dict(planned.settings)
        if not isinstance(request.model, SaliencyGuardedLVLM):
            settings.pop("seed", None)  # Not every model takes a seed.
        messages = [*request.messages, *([HumanMessage(planned.request)] if planned.request else ())]
        changed = request.override(model=_quiet(request.model), messages=messages)
        return changed.override(model_settings={**request.model_settings, **settings})

    @hook_config(can_jump_to=["end", "model"])
    def after_model(self, state: GroundingState, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002 - LangChain's
        """With ``on_low="interrupt"``, ask a person about an answer that is not good enough."""
        last = state["messages"][-1] if state["messages"] else None
        if self.on_low != "interrupt" or not isinstance(last, AIMessage):
            return None
        report = last.response_metadata.get(GROUNDING)
        if not report or report["decision"] not in ("flagged", "unscored"):
            return None
        decided = interrupt(
            {
                "type": "grounding_review",
                "text": last.text,
                "grounding": report["grounding"],
                "threshold": report["threshold"],
                "reasons": [attempt["refused"] or attempt["reason"] for attempt in report["attempts"]],
                "decisions": ["approve", "edit", "retry", "reject"],
            }
        )
        return _carried_out(decided, last, report)

    @hook_config(can_jump_to=["end", "model"])
    async def aafter_model(self, state: GroundingState, runtime: Any) -> dict[str, Any] | None:
        """As `after_model`."""
        return self.after_model(state, runtime)


def _response(outcome: GuardOutcome, response: ModelResponse) -> ExtendedModelResponse:
    """The response of the chosen attempt, with its report."""
    report = answer_report(outcome.answer, outcome)
    result = [
        with_report(message, report) if isinstance(message, AIMessage) else message for message in response.result
    ]
    changed = ModelResponse(result=result, structured_response=response.structured_response)
    return ExtendedModelResponse(model_response=changed, command=Command(update={"grounding": [report]}))


def _carried_out(decided: Any, last: AIMessage, report: dict[str, Any]) -> dict[str, Any]:
    """What a person's decision changes in the state: the message, and the reports.

    A structured answer was parsed from the refused text: an edit or a rejection removes it.

    Raises:
        ValueError: if it is none of the four decisions.
    """
    kind = decided.get("type") if isinstance(decided, dict) else decided
    if kind == "approve":
        return _decided(last, report, "approved")
    if kind == "edit" and isinstance(decided, dict) and isinstance(decided.get("text"), str):
        return {**_decided(last, report, "edited", decided["text"]), "structured_response": None}
    if kind == "retry":
        changed = {"messages": [RemoveMessage(id=str(last.id))], "jump_to": "model"}
        return {**changed, "grounding": [{**report, "decision": "retried"}]}
    if kind == "reject":
        text = decided.get("message", _REJECTED) if isinstance(decided, dict) else _REJECTED
        return {**_decided(last, report, "rejected", text), "structured_response": None, "jump_to": "end"}
    msg = f'decide with {{"type": "approve" | "edit" (with "text") | "retry" | "reject"}}, not {decided!r}'
    raise ValueError(msg)


def _decided(last: AIMessage, report: dict[str, Any], decision: str, text: str | None = None) -> dict[str, Any]:
    changed = {**report, "decision": decision}
    return {"messages": [with_report(last, changed, text)], "grounding": [changed]}


def _after(plan: _Plan, result: ModelResponse | GroundedAnswer) -> _Step:
    """The next step, or the response; a StopIteration that the handler raises is no end of the plan."""
    try:
        return plan.send(result)
    except StopIteration as end:
        response: ModelResponse | ExtendedModelResponse = end.value
        return response


def _messages(request: ModelRequest) -> list[BaseMessage]:
    system = [] if request.system_message is None else [request.system_message]
    return [*system, *request.messages]


def _answer(response: ModelResponse) -> AIMessage | None:
    """The answer in a response; None where there is none to score."""
    last = response.result[-1] if response.result else None
    return last if isinstance(last, AIMessage) and says_something(last) else None


def _quiet(model: BaseChatModel) -> BaseChatModel:
    """The model, its tokens kept out of streams: LangGraph leaves out what is tagged so."""
    if isinstance(model, BaseChatModel):
        return model.model_copy(update={"tags": [*(model.tags or []), "nostream"]})
    tagged: Any = model.with_config(tags=["nostream"])  # A configurable model of `init_chat_model`.
    return tagged
