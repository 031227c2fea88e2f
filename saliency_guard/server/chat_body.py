"""The body of a chat completion: what is taken, what is ignored, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from saliency_guard.adapters.prompt_memo import CoreMessages
from saliency_guard.adapters.report import ReportDetail
from saliency_guard.adapters.settings import Request
from saliency_guard.chat.tools import checked_tools, closed, requested_schema, required_tools
from saliency_guard.decoding.options import LARGEST_SEED
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.errors import shown
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.server.body import StrictBody
from saliency_guard.server.errors import invalid
from saliency_guard.server.messages import core_messages
from saliency_guard.server.policies import policy_of, report_of
from saliency_guard.server.settings import ServerSettings
from saliency_guard.settings import Seconds, Settings

_MOST_TOP_LOGPROBS = 20
_GENERATION = ("temperature", "top_p", "top_k", "repetition_penalty", "seed", "signals")
_OF_THE_PLAIN_MODEL = "top_logprobs are of the model's own distribution: leave out {}, or top_logprobs"

_MOST_STOPS = 16
_MOST_SCHEMA = 100_000
_Stop = Annotated[str, Field(max_length=1000)]

Switch = bool | dict[str, Any]
"""True is the paper's settings, an object other ones."""


class StreamOptions(StrictBody):
    """What a stream has besides its answer."""

    include_usage: bool = False
    include_obfuscation: bool = False  # Of OpenAI; there is nothing to hide from on this side.


class ChatBody(StrictBody):
    """The body of ``POST /v1/chat/completions``.

    Clients of OpenAI always send some parameters that change no answer: these are ignored. Those that would change one,
    and are not known here, are an error.
    """

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    model: str | None = None
    n: Annotated[int, Field(ge=1)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=_MOST_TOP_LOGPROBS)] = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=_MOST_STOPS)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool = True
    response_format: dict[str, Any] | None = None

    # Known from other servers.
    top_k: int | None = None
    repetition_penalty: float | None = None
    return_token_ids: bool = False

    # Of this one.
    grounding_policy: dict[str, Any] | None = None
    grounding_report: ReportDetail | None = None
    sgrs: Switch | None = None
    locore: Switch | None = None
    signals: list[str] | None = None
    timeout: Seconds | None = None

    # Taken where they change nothing.
    frequency_penalty: Annotated[float, Field(ge=0.0, le=0.0)] = 0.0
    presence_penalty: Annotated[float, Field(ge=0.0, le=0.0)] = 0.0
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] = Field(default_factory=dict)
    modalities: list[Literal["text"]] = Field(default_factory=list)
    store: Literal[False] = False

    # Ignored: they are about who asks, and about caches and queues that are not here.
    user: Any = None
    metadata: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat completion to make.

    Attributes:
        messages: in the core's form.
        request: how answers are written, and what decides on them.
        choices: how many answers.
        stream: whether they are given out as they are written.
        include_usage: whether a stream ends with the count of its tokens.
        logprobs: whether every token has its log-probability.
        top_logprobs: how many alternatives every token has.
        token_ids: whether the ids of prompt and answers are given out.
        single_call: whether an answer has one tool call at most.
        report: how much the report of an answer holds.
        timeout: seconds for all of it; None is no limit.
    """

    messages: CoreMessages
    request: Request
    choices: int
    stream: bool
    include_usage: bool
    logprobs: bool
    top_logprobs: int
    token_ids: bool
    single_call: bool
    report: ReportDetail
    timeout: float | None

    @property
    def live(self) -> bool:
        """Whether tokens are sent as they are written; not where a policy decides, or a tool call may be in them."""
        return self.stream and self.request.live


def chat_call(body: ChatBody, settings: ServerSettings) -> ChatCall:
    """What a body asks for.

    Args:
        body: of the request.
        settings: of the server.

    Raises:
        RequestError: for a parameter that is out of range, or does not go with another one.
        InputError: for messages that are not taken.
        ConfigError: for options of generation that are out of range.
    """
    if body.n > settings.max_choices:
        msg = f"n={body.n} is above this server's limit of {settings.max_choices}"
        raise invalid(msg, "n")
    if body.top_logprobs and not body.logprobs:
        msg = "top_logprobs needs logprobs=true"
        raise invalid(msg, "top_logprobs")
    if body.stream_options is not None and not body.stream:
        msg = "stream_options are for stream=true"
        raise invalid(msg, "stream_options")
    request = _request(body, settings)
    _check_top_logprobs(body, request)
    limits = [seconds for seconds in (body.timeout, settings.timeout) if seconds is not None]
    return ChatCall(
        messages=core_messages(body.messages, settings),
        request=request,
        choices=body.n,
        stream=body.stream,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        logprobs=body.logprobs,
        top_logprobs=body.top_logprobs,
        token_ids=body.return_token_ids,
        single_call=not body.parallel_tool_calls,
        report=report_of(body.grounding_report, settings),
        timeout=min(limits, default=None),
    )


def _request(body: ChatBody, settings: ServerSettings) -> Request:
    given: dict[str, Any] = {name: getattr(body, name) for name in _GENERATION if getattr(body, name) is not None}
    tokens = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if tokens is not None:
        given["max_new_tokens"] = tokens
    for name, kind in (("sgrs", SGRSConfig), ("locore", LocoREConfig)):
        switch: Switch | None = getattr(body, name)
        if switch is not None:
            given[name] = _switched(kind, switch)
    if body.seed is not None and not -LARGEST_SEED // 2 < body.seed < LARGEST_SEED // 2:  # Other choices add to it.
        msg = "seed must lie between -2**63 and 2**63"
        raise invalid(msg, "seed")
    given["timeout"] = None  # The deadline is kept by who waits for the answer.
    given["policy"] = policy_of(body.grounding_policy, settings)
    # Without a choice the prompt does not tell of tools: no call can be in the answer.
    tools = [] if body.tool_choice == "none" else list(checked_tools(body.tools or ()))
    if body.tool_choice not in (None, "none", "auto") and not tools:
        msg = "tool_choice needs tools"
        raise invalid(msg, "tool_choice")
    forced = required_tools(tools, body.tool_choice)
    return settings.request(given, stop=body.stop, tools=tools, forced=forced, json_schema=_schema(body))


def _switched(kind: type[Settings], switch: Switch) -> Settings | None:
    if isinstance(switch, bool):
        return kind() if switch else None
    return kind(**switch)


def _schema(body: ChatBody) -> Mapping[str, Any] | None:
    """The JSON schema of the answer; None where it is free text."""
    wanted = body.response_format
    if wanted is None:
        return None
    if wanted.get("type") not in ("text", "json_object", "json_schema"):
        msg = f"response_format has the type {shown(wanted.get('type'))}: there are text, json_object and json_schema"
        raise invalid(msg, "response_format")
    if len(json.dumps(wanted)) > _MOST_SCHEMA:
        msg = f"the JSON schema has more than {_MOST_SCHEMA} characters"
        raise invalid(msg, "response_format")
    schema = requested_schema(wanted)
    return None if schema is None else closed(schema)  # As in both integrations: a small model never stops otherwise.


def _check_top_logprobs(body: ChatBody, request: Request) -> None:
    if not body.top_logprobs:
        return
    policy: GuardPolicy | None = request.policy
    hindrances = {
        "grounding_policy": policy is not None,
        "response_format and tool_choice": "json_schema" in request.generation
        and request.generation["json_schema"] is not None,
        "repetition_penalty": request.generation["repetition_penalty"] != 1.0,
        "sgrs": request.generation["sgrs"] is not None,
    }
    for name, hinders in hindrances.items():
        if hinders:
            raise invalid(_OF_THE_PLAIN_MODEL.format(name), "top_logprobs")
