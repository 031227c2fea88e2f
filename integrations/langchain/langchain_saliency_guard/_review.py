"""A person's decision on an answer that is not good enough, in the protocol of LangChain's `HumanInTheLoopMiddleware`.

A request has ``action_requests`` and ``review_configs``; it is answered with ``{"decisions": [decision]}``, or with the
decision alone. What nobody understands is asked again, so that a wrong answer does not end the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, RemoveMessage

from langchain_saliency_guard._report import GROUNDING, brief
from langchain_saliency_guard._scoring import with_report

ACTION = "answer"
"""The name of the action that a person reviews: to give out a text."""

UNDER_REVIEW = "This answer is under review."
"""What stands in the chat until a person has decided."""

_MARK = "grounding_review"
_DECISIONS = ("approve", "edit", "reject", "respond")
_REJECTED = "I cannot give an answer that rests on the picture."
_HOW = (
    'answer with {"decisions": [decision]}, where the decision is {"type": "approve"}, '
    '{"type": "edit", "edited_action": {"name": "answer", "args": {"text": "..."}}}, '
    '{"type": "reject", "message": "..."} (the message is optional), {"type": "respond", "message": "..."} '
    'or {"type": "retry"}'
)


@dataclass(frozen=True, slots=True)
class Review:
    """What a person decided.

    Attributes:
        decision: for the report: ``"approved"``, ``"edited"``, ``"rejected"``, ``"answered"`` or ``"retried"``.
        text: the person's own; None where the answer is given out as it is, or drawn anew.
    """

    decision: str
    text: str | None = None


def review_request(draft: AIMessage, report: Mapping[str, Any]) -> dict[str, Any]:
    """What a person is asked: LangChain's ``HITLRequest``, with what speaks against the answer.

    Args:
        draft: the answer.
        report: of its grounding.
    """
    score = "unknown" if report["score"] is None else f"{report['score']:.3f}"
    calls = [{"name": call["name"], "args": call["args"]} for call in draft.tool_calls]
    arguments = {"text": draft.text, **({"tool_calls": calls} if calls else {})}
    description = f"The answer is not good enough: {report['reason']}. Its grounding is {score}."
    return {
        "action_requests": [{"name": ACTION, "args": arguments, "description": description}],
        "review_configs": [{"action_name": ACTION, "allowed_decisions": list(_DECISIONS)}],
        "grounding": {name: report[name] for name in ("score", "threshold", "decision", "reason", "claims")},
    }


def decision_of(ask: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> Review:
    """The decision of a person, who is asked until it can be understood.

    Args:
        ask: LangGraph's ``interrupt``.
        request: from `review_request`.
    """
    question = request
    while True:
        given = ask(question)
        review = _read(given)
        if isinstance(review, Review):
            return review
        (action,) = request["action_requests"]
        action = {**action, "description": f"{review}: {_HOW}. {action['description']}"}
        question = {**request, "action_requests": [action]}


def _read(given: Any) -> Review | str:
    """A decision, or what is wrong with it."""
    decision = given
    if isinstance(given, Mapping) and "decisions" in given:
        decisions = given["decisions"]
        if not isinstance(decisions, (list, tuple)) or len(decisions) != 1:
            return "one decision is needed"
        decision = decisions[0]
    fields: Mapping[str, Any] = decision if isinstance(decision, Mapping) else {"type": decision}
    kind, message = fields.get("type"), fields.get("message")
    if kind == "approve":
        return Review("approved")
    if kind == "retry":
        return Review("retried")
    if kind == "reject" and isinstance(message, (str, type(None))):
        return Review("rejected", message or _REJECTED)
    if kind == "respond" and isinstance(message, str) and message.strip():
        return Review("answered", message)
    if kind == "edit":
        action = fields.get("edited_action")
        arguments = action.get("args") if isinstance(action, Mapping) else fields
        text = arguments.get("text") if isinstance(arguments, Mapping) else None
        return Review("edited", text) if isinstance(text, str) and text.strip() else "an edit needs a text"
    return f"{kind!r} is no decision" if isinstance(kind, str) else "this is no decision"


class Held:
    """An answer that is held back until a person has decided on it, as an agent's state keeps it.

    Args:
        kept: from `hold`.
    """

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self._kept = kept
        self.draft: AIMessage = kept["message"]

    def review(self, ask: Callable[[dict[str, Any]], Any]) -> Review:
        """A person's decision; ``ask`` is LangGraph's ``interrupt``."""
        return decision_of(ask, review_request(self.draft, self.draft.response_metadata[GROUNDING]))

    def given_out(self, review: Review) -> AIMessage:
        """The message after a decision, which is not to draw anew; it takes the placeholder's place."""
        report = {**self.draft.response_metadata[GROUNDING], "decision": review.decision}
        if review.text is not None:  # The rest is about a text that is not given out.
            report = _without_text(report)
        return with_report(self.draft, report, review.text).model_copy(update={"id": self._kept["id"]})

    def update(self, review: Review, given_out: AIMessage | None) -> dict[str, Any]:
        """The state's update after a decision.

        Args:
            review: the decision.
            given_out: the message; None where the answer is drawn anew.
        """
        if given_out is None:
            report = {**self.draft.response_metadata[GROUNDING], "decision": review.decision}
            remove = RemoveMessage(id=self._kept["id"])
            return {
                "messages": [remove],
                "grounding": [brief(report)],
                "grounding_draft": None,
                "jump_to": "model",
            }
        as_it_is = review.text is None
        update = {
            "messages": [given_out, *(self._kept["rest"] if as_it_is else [])],
            "grounding": [brief(given_out.response_metadata[GROUNDING])],
            "grounding_draft": None,
            "structured_response": self._kept["structured"] if as_it_is else None,
        }
        return update if review.decision != "rejected" else {**update, "jump_to": "end"}


def hold(
    draft: AIMessage, report: dict[str, Any], rest: Sequence[Any], structured: Any
) -> tuple[AIMessage, dict[str, Any]]:
    """What stands in the chat for an answer under review, and what the state keeps of the answer.

    Args:
        draft: the answer, with its report.
        report: of its grounding.
        rest: the messages after it.
        structured: the object that was parsed from it, or None.
    """
    message_id = f"lc_{uuid4()}"
    metadata = {GROUNDING: _without_text(report), _MARK: True}
    stands = AIMessage(UNDER_REVIEW, id=message_id, usage_metadata=draft.usage_metadata, response_metadata=metadata)
    return stands, {"message": draft, "rest": list(rest), "structured": structured, "id": message_id}


def is_under_review(message: AIMessage) -> bool:
    """Whether a message stands for an answer that another guard holds back."""
    return message.response_metadata.get(_MARK) is True and message.content == UNDER_REVIEW


def _without_text(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report that says nothing of what the answer said."""
    return {**{name: value for name, value in report.items() if name != "tokens"}, "claims": [], "shares": {}}
