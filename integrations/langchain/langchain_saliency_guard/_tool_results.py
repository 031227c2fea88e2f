"""What an agent reads of a tool: its result says so where an answer in it is not grounded."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from saliency_guard import GuardOutcome
from saliency_guard.adapters import answer_report


def flagged(result: Any, verdicts: list[GuardOutcome]) -> Any:
    """A tool's result that says so where an answer in it is not grounded.

    Args:
        result: a `ToolMessage`, or a `Command` with such messages.
        verdicts: on the answers that were made inside of the tool.
    """
    if isinstance(result, ToolMessage):
        low = next((outcome for outcome in reversed(verdicts) if _concerns(outcome, result.text, verdicts)), None)
        return result if low is None else _with_note(result, _note(low))
    if isinstance(result, Command) and isinstance(result.update, dict) and "messages" in result.update:
        messages = [flagged(message, verdicts) for message in result.update["messages"]]
        return Command(
            graph=result.graph, update={**result.update, "messages": messages}, resume=result.resume, goto=result.goto
        )
    return result


def _concerns(outcome: GuardOutcome, content: str, verdicts: list[GuardOutcome]) -> bool:
    """Whether a badly grounded answer is in a tool's result: word for word, or because it was the last one made."""
    is_low = not outcome.passes and outcome.decision in ("flagged", "unscored")
    return is_low and (outcome is verdicts[-1] or (bool(outcome.text.strip()) and outcome.text.strip() in content))


def _note(outcome: GuardOutcome) -> str:
    reason = answer_report(outcome.answer, outcome)["reason"]
    verdict = "is not grounded in its picture" if outcome.decision == "flagged" else "was not judged"
    return f"[Warning: this answer {verdict}: {reason}. Do not rely on it.]"


def _with_note(message: ToolMessage, note: str) -> ToolMessage:
    if note in message.text:
        return message
    content: Any = message.content
    content = f"{content}\n{note}" if isinstance(content, str) else [*content, {"type": "text", "text": note}]
    return message.model_copy(update={"content": content})
