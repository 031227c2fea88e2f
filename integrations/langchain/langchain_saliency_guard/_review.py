"""A person's decision on an answer that is not good enough."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, RemoveMessage

from langchain_saliency_guard._report import brief
from langchain_saliency_guard._scoring import with_report

_REJECTED = "I cannot give an answer that rests on the picture."


def reviewed(decision: Any, last: AIMessage, report: dict[str, Any]) -> dict[str, Any]:
    """The state update after a person's decision: the message and its report.

    A structured answer was parsed from the refused text, so an edit or a rejection removes it.

    Raises:
        ValueError: if it is none of the four decisions.
    """
    kind = decision.get("type") if isinstance(decision, dict) else decision
    if kind == "approve":
        return _update(last, report, "approved")
    if kind == "edit" and isinstance(decision, dict) and isinstance(decision.get("text"), str):
        return {**_update(last, report, "edited", decision["text"]), "structured_response": None}
    if kind == "retry":
        retried = {**report, "decision": "retried"}
        return {"messages": [RemoveMessage(id=str(last.id))], "jump_to": "model", "grounding": [brief(retried)]}
    if kind == "reject":
        text = decision.get("message", _REJECTED) if isinstance(decision, dict) else _REJECTED
        return {**_update(last, report, "rejected", text), "structured_response": None, "jump_to": "end"}
    msg = f'decide with {{"type": "approve" | "edit" (with "text") | "retry" | "reject"}}, not {decision!r}'
    raise ValueError(msg)


def _update(last: AIMessage, report: dict[str, Any], decision: str, text: str | None = None) -> dict[str, Any]:
    changed_report = {**report, "decision": decision}
    return {"messages": [with_report(last, changed_report, text)], "grounding": [brief(changed_report)]}
