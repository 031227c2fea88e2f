"""The options of a call, from the keyword arguments that LangChain and OpenAI users pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_saliency_guard._tools import answer_schema, as_functions
from saliency_guard.adapters import Request, ServedLVLM, requested_schema, required_tools

_IGNORED = {"stream", "parallel_tool_calls", "strict", "ls_structured_output_format", "structured_output_format"}


def request(settings: ServedLVLM, kwargs: Mapping[str, Any], stop: str | Sequence[str] | None) -> Request:
    """The options of a call.

    Args:
        settings: the chat model.
        kwargs: keyword arguments of the call.
        stop: stop strings of the call, in addition to the model's.

    Raises:
        ConfigError: for an argument that does not exist.
    """
    options = {name: value for name, value in kwargs.items() if name not in _IGNORED}
    tools = as_functions(options.pop("tools", None) or ())
    forced = required_tools(tools, options.pop("tool_choice", None))
    response_format = options.pop("response_format", None)
    schema = requested_schema(options.pop("json_schema", response_format))
    json_schema = None if schema is None else answer_schema(schema)
    return settings.request(options, stop=stop, tools=tools, forced=forced, json_schema=json_schema)
