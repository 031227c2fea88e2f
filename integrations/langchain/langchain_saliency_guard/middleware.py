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

from langchain_saliency_guard._judging import Judge, says_something, with_report
from langchain_saliency_guard._messages import has_picture
from langchain_saliency_guard._report import GROUNDING
from langchain_saliency_guard.chat_models import SaliencyGuardedLVLM
from saliency_guard import GroundedAnswer, GuardOutcome, GuardPolicy
from saliency_guard.adapters.run import answer_report
from saliency_guard.adapters.settings import Scorer
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import require_extra
from saliency_guard.guard.retry import PlannedAttempt

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
    """The next thing to do: ask a model, or score an answer."""

    request: ModelRequest | None = None
    text: str = ""
    wait: float = 0.0


_Step = _Ask | ModelResponse | ExtendedModelResponse
_Plan = Generator[_Ask, Any, ModelResponse | ExtendedModelResponse]


class GroundingMiddleware(AgentMiddleware[GroundingState, Any]):
    """Guards what an agent says about pictures.

    Every answer of the model (not its calls of tools, and not answers to chats without a picture) is scored. One that
    is refused is drawn anew as often as the policy says, then asked of the fallback model, and then flagged, raised or
    shown to a person. The message has ``response_metadata["grounding"]``, and the agent's state ``grounding``, the
    reports of all answers. Drafts are not streamed.

    Where a person decides (``on_low="interrupt"``; the agent needs a checkpointer), resume with
    ``Command(resume={"type": ...})``: ``"approve"``; ``"edit"`` with ``"text"``; ``"retry"``; ``"reject"``, perhaps
    with a ``"message"``. What is approved is what was shown.

    Args:
        policy: decides, and says how often to draw anew.
        scorer: scores answers of models other than `SaliencyGuardedLVLM`; see `GroundingGuard`.
        fallback_model: asked when no answer of the agent's own model is good enough; a text is for `init_chat_model`.
        on_low: what is done when that is not good enough either, or there is none; None is ``"raise"`` where the policy
            says so, else ``"flag"``.
    """

    state_schema = GroundingState

    def __init__(
        self,
        policy: GuardPolicy,
        *,
        scorer: Scorer = EMBEDDED,
        fallback_model: BaseChatModel | str | None = None,
        on_low: OnLow | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.fallback_model = init_chat_model(fallback_model) if isinstance(fallback_model, str) else fallback_model
        self.on_low: OnLow = on_low or ("raise" if policy.on_low == "raise" else "flag")
        self._judge = Judge(scorer)

    def wrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
    ) -> ModelResponse | ExtendedModelResponse:
        """Ask the model until an answer is good enough or nothing is left to try.

        Raises:
            LowGroundingError: with ``on_low="raise"``, if no answer is good enough.
        """
        if not has_picture(request.messages):
            return handler(request)
        judge = self._judge_of(request)
        asked = judge.core_messages(_messages(request))
        plan = self._plan(request, asked)
        step: _Step = next(plan)
        while isinstance(step, _Ask):
            time.sleep(step.wait)
            ask = step.request
            done = handler(ask) if ask is not None else judge.score(asked, step.text, self.policy)
            step = _after(plan, done)
        return step

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse | ExtendedModelResponse:
        """As `wrap_model_call`; scoring does not block the event loop."""
        if not has_picture(request.messages):
            return await handler(request)
        judge = self._judge_of(request)
        asked = await asyncio.to_thread(judge.core_messages, _messages(request))
        plan = self._plan(request, asked)
        step: _Step = next(plan)
        while isinstance(step, _Ask):
            await asyncio.sleep(step.wait)
            done: ModelResponse | GroundedAnswer
            if step.request is not None:
                done = await handler(step.request)
            else:
                done = await asyncio.to_thread(judge.score, asked, step.text, self.policy)
            step = _after(plan, done)
        return step

    def _judge_of(self, request: ModelRequest) -> Judge:
        return Judge(request.model) if isinstance(request.model, SaliencyGuardedLVLM) else self._judge

    def _plan(self, request: ModelRequest, asked: list[dict[str, Any]]) -> _Plan:
        """What to do, in order; is sent what each step came to, and returns the response of the model."""
        low = "raise" if self.on_low == "raise" else "flag"
        reports: Any = request.state.get("grounding") or ()
        plan = self.policy.model_copy(update={"on_low": low}).planned_attempts(
            asked,
            temperature=request.model_settings.get("temperature") or getattr(request.model, "temperature", None),
            seed=getattr(request.model, "seed", None),
            sgrs=getattr(request.model, "sgrs", None),
            locore=getattr(request.model, "locore", None),
            # What a person asked for again is drawn anew, too.
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
        """The request of one attempt."""
        if planned.is_fallback and self.fallback_model is not None:
            return request.override(model=_quiet(self.fallback_model))
        settings = dict(planned.settings)
        if not isinstance(request.model, SaliencyGuardedLVLM):
            settings.pop("seed", None)  # Not every model takes one.
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
    """The response of the attempt that was decided for, with its report."""
    report = answer_report(outcome.answer, outcome)
    result = [with_report(one, report) if isinstance(one, AIMessage) else one for one in response.result]
    changed = ModelResponse(result=result, structured_response=response.structured_response)
    return ExtendedModelResponse(model_response=changed, command=Command(update={"grounding": [report]}))


def _carried_out(decided: Any, last: AIMessage, report: dict[str, Any]) -> dict[str, Any]:
    """What a person's decision changes in the state: the message, and the reports.

    A structured answer is what was refused: after an edit or a rejection it is taken back.

    Raises:
        ValueError: if it is none of the four.
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
        said = decided.get("message", _REJECTED) if isinstance(decided, dict) else _REJECTED
        return {**_decided(last, report, "rejected", said), "structured_response": None, "jump_to": "end"}
    msg = f'decide with {{"type": "approve" | "edit" (with "text") | "retry" | "reject"}}, not {decided!r}'
    raise ValueError(msg)


def _decided(last: AIMessage, report: dict[str, Any], decision: str, text: str | None = None) -> dict[str, Any]:
    changed = {**report, "decision": decision}
    return {"messages": [with_report(last, changed, text)], "grounding": [changed]}


def _after(plan: _Plan, done: ModelResponse | GroundedAnswer) -> _Step:
    """The next thing to do, or the response; only the plan's own end is its end."""
    try:
        return plan.send(done)
    except StopIteration as end:
        response: ModelResponse | ExtendedModelResponse = end.value
        return response


def _messages(request: ModelRequest) -> list[BaseMessage]:
    system = [] if request.system_message is None else [request.system_message]
    return [*system, *request.messages]


def _answer(response: ModelResponse) -> AIMessage | None:
    """The answer in a response; None where there is none to be judged."""
    last = response.result[-1] if response.result else None
    return last if isinstance(last, AIMessage) and says_something(last) else None


def _quiet(model: BaseChatModel) -> BaseChatModel:
    """The model, its tokens kept out of streams: LangGraph leaves out what is tagged so."""
    if isinstance(model, BaseChatModel):
        return model.model_copy(update={"tags": [*(model.tags or []), "nostream"]})
    tagged: Any = model.with_config(tags=["nostream"])  # One that `init_chat_model` makes when it is configured.
    return tagged
