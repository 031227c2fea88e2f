"""Keys under which messages carry their grounding, and token counts in LangChain's form."""

from __future__ import annotations

from typing import Any

from langchain_core.messages.ai import UsageMetadata

from saliency_guard import Usage

GROUNDING = "grounding"
"""Key of `response_metadata`: the report of the answer."""

GROUNDING_TOKENS = "grounding_tokens"
"""Key of `additional_kwargs`: the tokens of the chunk."""


def usage_metadata(usage: Usage) -> UsageMetadata:
    """Token counts in LangChain's form."""
    return UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )


def brief(report: dict[str, Any]) -> dict[str, Any]:
    """What an agent's state keeps of a report: its message has the rest."""
    return {name: report[name] for name in ("score", "decision", "reason", "threshold")}
