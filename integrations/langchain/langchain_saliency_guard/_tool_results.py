"""What an agent reads of a tool: its result says so where an answer in it is not grounded."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from langchain_saliency_guard._verdicts import Verdict
from saliency_guard.adapters import is_low, warning


def flagged(result: Any, verdicts: list[Verdict]) -> Any:
    """A tool's result that says so where an answer in it is not grounded.

    Args:
        result: a `ToolMessage`, or a `Command` with such messages.
        verdicts: on the answers that were made inside of the tool.
    """
    if isinstance(result, ToolMessage):
        low = next((verdict for verdict in reversed(verdicts) if _concerns(verdict, result.text, verdicts)), None)
        return result if low is None else _with_note(result, warning(low.decision, low.reason, "its picture"))
    if isinstance(result, Command) and isinstance(result.update, dict) and "messages" in result.update:
        messages = [flagged(message, verdicts) for message in result.update["messages"]]
        return Command(
            graph=result.graph, update={**result.update, "messages": messages}, resume=result.resume, goto=result.goto
        )
    return result


def _concerns(verdict: Verdict, content: str, verdicts: list[Verdict]) -> bool:
    """Whether a badly grounded answer is in a tool's result: word for word, or because it was the last one made."""
    low = is_low(verdict.decision, passes=verdict.passes)
    return low and (verdict is verdicts[-1] or (bool(verdict.text.strip()) and verdict.text.strip() in content))


def _with_note(message: ToolMessage, note: str) -> ToolMessage:
    if note in message.text:
        return message
    content: Any = message.content
    content = f"{content}\n{note}" if isinstance(content, str) else [*content, {"type": "text", "text": note}]
    return message.model_copy(update={"content": content})
