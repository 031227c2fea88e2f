"""Where a message says what it rests on."""

from __future__ import annotations

from langchain_core.messages.ai import UsageMetadata

from saliency_guard import Usage

GROUNDING = "grounding"
"""Key of `response_metadata`: the whole report, once."""

GROUNDING_TOKENS = "grounding_tokens"
"""Key of `additional_kwargs`: a list of tokens, on every chunk its own."""


def usage_metadata(usage: Usage) -> UsageMetadata:
    """Tokens in LangChain's words."""
    return UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )
