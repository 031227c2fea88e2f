"""What one call asks for: the model's settings with what was bound or passed for this call alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_saliency_guard._tools import Tool, answer_schema, as_functions, call_schema, forced
from saliency_guard import ConfigError, GuardPolicy

_NAMES = {"max_new_tokens": "max_tokens", "stop_sequences": "stop"}
_OF_GENERATE = ("temperature", "top_p", "seed", "sgrs", "locore", "saliency", "signals")
_NEVER_NONE = {"model", "max_tokens", "temperature", "top_p", "signals"}
_IGNORED = {"stream", "parallel_tool_calls", "strict", "ls_structured_output_format", "structured_output_format"}


@dataclass(frozen=True, slots=True)
class Request:
    """One call.

    Attributes:
        model: which model.
        generation: keyword arguments of `LVLM.generate`.
        policy: what decides on the answer; None gives out whatever is written.
        timeout: seconds; None is no limit.
        tools: that the prompt tells of; the model may call them.
        forced: of which one has to be called.
    """

    model: str
    generation: dict[str, Any]
    policy: GuardPolicy | None
    timeout: float | None
    tools: list[Tool] = field(default_factory=list)
    forced: list[Tool] = field(default_factory=list)


def request(own: Mapping[str, Any], given: Mapping[str, Any], stop: str | Sequence[str] | None) -> Request:
    """What is asked for.

    Args:
        own: the chat model's settings by name.
        given: keyword arguments of the call.
        stop: of the call, beside the model's own.

    Raises:
        ConfigError: for an argument that nothing is known of.
    """
    given = {_NAMES.get(name, name): value for name, value in given.items() if name not in _IGNORED}
    given = {name: value for name, value in given.items() if value is not None or name not in _NEVER_NONE}
    tools: list[Tool] = list(as_functions(given.pop("tools", None) or ()))
    must: list[Tool] = forced(tools, given.pop("tool_choice", None))
    wanted = given.pop("response_format", None)
    schema = given.pop("json_schema", wanted)
    unknown = set(given) - set(own)
    if unknown:
        msg = f"unknown argument {min(unknown)!r}: a call takes {', '.join(sorted(own))}, tools and json_schema"
        raise ConfigError(msg)
    settings = {**own, **given}
    generation = {name: settings[name] for name in _OF_GENERATE}
    generation["max_new_tokens"] = settings["max_tokens"]
    generation["stop"] = tuple(dict.fromkeys([*_several(settings["stop"]), *_several(stop)]))
    if must:
        generation["json_schema"] = call_schema(must)
    elif schema is not None:
        generation["json_schema"] = answer_schema(_of_openai(schema))
    return Request(
        model=settings["model"],
        generation=generation,
        policy=settings["policy"],
        timeout=settings["timeout"],
        tools=[] if must else tools,
        forced=must,
    )


def _several(stop: str | Sequence[str] | None) -> Sequence[str]:
    return (stop,) if isinstance(stop, str) else stop or ()


def _of_openai(schema: Any) -> Any:
    """The schema of a ``response_format`` as OpenAI writes it; anything else as it is."""
    if isinstance(schema, Mapping) and schema.get("type") == "json_schema":
        return schema["json_schema"].get("schema", schema["json_schema"])
    if isinstance(schema, Mapping) and schema.get("type") == "json_object":
        return {"type": "object"}
    return schema
