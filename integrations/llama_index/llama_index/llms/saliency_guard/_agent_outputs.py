"""What agents and `AgentWorkflow` add to an answer by calls of their own: judged where it can be, else marked.

An `AgentWorkflow` writes the answer that it is stopped with (``early_stopping_method="generate"``) by calling its
agent's LLM itself, and so does whatever makes an object of an answer. The first is a method that is wrapped once, so
that guarded agents write and judge it; the second has no such place, and outputs note when they are given an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, wraps
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.agent.workflow.workflow_events import AgentOutput
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.workflow import Context
from pydantic import PrivateAttr

from llama_index.llms.saliency_guard.events import GroundingScoreEvent, dispatcher
from saliency_guard import GuardPolicy, LowGroundingError
from saliency_guard.adapters import (
    NO_PICTURE,
    ReportDetail,
    answer_report,
    not_applicable,
    raised_report,
    unscored_attempt,
)

UNJUDGED_OBJECT = "the agent makes an object of its answer by another call, which is not judged"
_TOOL_RESULT = "a tool's result is given out as it is: the model wrote no answer"


class MarkedOutput(AgentOutput):
    """An output that says so, and sends an event, when it is given an object that nobody judged."""

    _object_report: dict[str, Any] | None = PrivateAttr(default=None)
    _object_error: LowGroundingError | None = PrivateAttr(default=None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute.

        Raises:
            LowGroundingError: for an object, if nothing unscored may pass. LlamaIndex turns it into a warning, and the
                output has no object.
        """
        if name == "structured_response" and value is not None and self._object_report is not None:
            dispatcher.event(GroundingScoreEvent(report=self._object_report, attempt=None))
            if self._object_error is not None:
                raise self._object_error
            raw: Any = self.raw
            self.raw = {**raw, "grounding": {**raw["grounding"], "structured_response": self._object_report}}
        super().__setattr__(name, value)


def marked(output: AgentOutput, policy: GuardPolicy, detail: ReportDetail, *, saw_picture: bool) -> MarkedOutput:
    """An output that marks what is added to it.

    Args:
        output: of the agent, with its report; without one it is a tool's result, and is marked as such.
        policy: its ``unscored`` decides on objects made of the answer.
        detail: how much reports hold.
        saw_picture: whether there is or was a picture to judge an object by.
    """
    raw = output.raw if isinstance(output.raw, Mapping) else {"response": output.raw}
    report = raw.get("grounding")
    if not isinstance(report, Mapping) or "decision" not in report:
        report = answer_report(None, not_applicable("", _TOOL_RESULT, policy), detail=detail)
    fields = {name: getattr(output, name) for name in AgentOutput.model_fields}
    copy = MarkedOutput(**{**fields, "raw": {**raw, "grounding": dict(report)}})
    try:
        attempt = unscored_attempt("", UNJUDGED_OBJECT)
        outcome = policy.decide((attempt,)) if saw_picture else not_applicable("", NO_PICTURE, policy)
        copy._object_report = answer_report(outcome.answer, outcome, detail=detail)
    except LowGroundingError as error:
        copy._object_report, copy._object_error = raised_report(error, detail=detail), error
    return copy


@cache
def guard_workflows(guarded: type[BaseWorkflowAgent]) -> None:
    """Let guarded agents write the answers that an `AgentWorkflow` is stopped with.

    Args:
        guarded: the class of such agents.
    """
    original = AgentWorkflow._get_llm_response

    @wraps(original)
    async def get_llm_response(
        self: AgentWorkflow, ctx: Context, llm_input: list[ChatMessage], agent: BaseWorkflowAgent
    ) -> ChatResponse:
        if isinstance(agent, guarded):
            return await agent._get_llm_response(ctx, llm_input)
        return await original(self, ctx, llm_input, agent)

    AgentWorkflow._get_llm_response = get_llm_response  # type: ignore[method-assign]
