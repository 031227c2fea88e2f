"""LiteLLM's generic guardrail: answers of any model behind the gateway are let through, changed or blocked.

The gateway shows a chat before it is answered (``input_type: request``), and the answer alone afterwards
(``response``); the chat is found again by the call's id. So the guardrail runs before and after a call
(``mode: [pre_call, post_call]``). What a policy does not pass is blocked: a gateway has no way to give out a flag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from saliency_guard.adapters.prompt_memo import CoreMessages
from saliency_guard.adapters.report import answer_report, raised_report
from saliency_guard.adapters.turns import Turn, TurnMessage
from saliency_guard.adapters.unjudged import unscored_attempt
from saliency_guard.guard.decision import not_applicable
from saliency_guard.guard.outcome import GuardOutcome, LowGroundingError
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.server.body import StrictBody
from saliency_guard.server.errors import invalid
from saliency_guard.server.messages import core_messages, picture_messages
from saliency_guard.server.policies import policy_of
from saliency_guard.server.record import RequestRecord
from saliency_guard.server.scoring import judged
from saliency_guard.server.state import ServerState
from saliency_guard.storage import json_value

_NO_POLICY = (
    "the guardrail has no policy: start the server with one, or set additional_provider_specific_params: "
    "{grounding_policy: {min_grounding: 0.5}}"
)
_NO_CHAT = "the chat is not known: run the guardrail before and after the call (mode: [pre_call, post_call])"
_QUESTION = "Describe the image in detail."
_PARAMS = {"grounding_policy"}
_MOST_TEXTS = 2_000
_LONGEST_ID = 1_000


class GuardrailBody(StrictBody):
    """The body of LiteLLM's generic guardrail; what is not needed here (who asks, tools) is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    input_type: Literal["request", "response"]
    texts: Annotated[list[str], Field(max_length=_MOST_TEXTS)] = Field(default_factory=list)
    images: list[str] = Field(default_factory=list)
    structured_messages: list[dict[str, Any]] | None = None
    litellm_call_id: Annotated[str, Field(max_length=_LONGEST_ID)] | None = None
    additional_provider_specific_params: dict[str, Any] = Field(default_factory=dict)


async def guardrail(state: ServerState, record: RequestRecord, body: GuardrailBody) -> dict[str, Any]:
    """The reply of LiteLLM's guardrail route.

    Args:
        state: the server.
        record: of the request.
        body: what the gateway shows.

    Raises:
        RequestError: if there is no policy.
        SaliencyGuardError: as of `LVLM.score`; the gateway blocks the call then, unless it is told otherwise.
    """
    policy = _policy(state, body.additional_provider_specific_params)
    chat = await asyncio.to_thread(_chat, state, body)
    if body.input_type == "request":
        if chat is not None and body.litellm_call_id is not None:
            state.chats.remember(body.litellm_call_id, chat)
        return {"action": "NONE"}
    verdicts = [await _verdict(state, record, chat, text, policy) for text in body.texts if text.strip()]
    if body.litellm_call_id is not None:
        state.chats.forget(body.litellm_call_id)
    reports = [verdict.report for verdict in verdicts]
    blocked = next((verdict.blocked for verdict in verdicts if verdict.blocked is not None), None)
    if blocked is not None:
        return {"action": "BLOCKED", "blocked_reason": blocked, "grounding": reports}
    given = iter(verdicts)
    texts = [next(given).text if text.strip() else text for text in body.texts]
    if texts == body.texts:
        return {"action": "NONE", "grounding": reports}
    return {"action": "GUARDRAIL_INTERVENED", "texts": texts, "grounding": reports}


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What becomes of one text.

    Attributes:
        text: to give out.
        report: on its grounding.
        blocked: why nothing is given out; None where something is.
    """

    text: str
    report: dict[str, Any]
    blocked: str | None = None


def _policy(state: ServerState, params: Mapping[str, Any]) -> GuardPolicy:
    unknown = sorted(set(params) - _PARAMS)
    if unknown:
        msg = f"additional_provider_specific_params has {unknown[0]!r}: there is grounding_policy alone"
        raise invalid(msg, "additional_provider_specific_params")
    given = params.get("grounding_policy")
    if given is not None and not isinstance(given, Mapping):
        msg = "grounding_policy must be an object"
        raise invalid(msg, "additional_provider_specific_params")
    policy = policy_of(given, state.settings)
    if policy is None:
        raise invalid(_NO_POLICY, "additional_provider_specific_params", code="no_policy")
    return policy


def _chat(state: ServerState, body: GuardrailBody) -> CoreMessages | None:
    """What is answered; None where it is not known."""
    if body.structured_messages:
        return core_messages(body.structured_messages, state.settings)
    if body.input_type == "request":
        return picture_messages(body.images, "\n".join(body.texts) or _QUESTION, state.settings)
    known = state.chats.recall(body.litellm_call_id)
    if known is None and body.images:
        return picture_messages(body.images, _QUESTION, state.settings)
    return known


async def _verdict(
    state: ServerState, record: RequestRecord, chat: CoreMessages | None, text: str, policy: GuardPolicy
) -> _Verdict:
    try:
        if chat is None:
            outcome = policy.decide((unscored_attempt(text, _NO_CHAT),))
        elif (other := _turn(chat, text).other_subject) is not None:
            outcome = not_applicable(text, other, policy)
        else:
            async with state.queue.slot():
                end = await judged(state, record, chat, text, policy=policy)
            assert end.outcome is not None  # noqa: S101 - there is a policy
            return _of_outcome(end.outcome)
    except LowGroundingError as error:
        return _Verdict("", json_value(raised_report(error)), str(error))
    record.decisions.append(outcome.decision)
    state.metrics.outcome(outcome)
    return _of_outcome(outcome)


def _of_outcome(outcome: GuardOutcome) -> _Verdict:
    report: dict[str, Any] = json_value(answer_report(outcome.answer, outcome))
    is_given = outcome.passes or outcome.decision == "fallback"
    return _Verdict(outcome.text, report, None if is_given else f"the answer is {outcome.decision}: {report['reason']}")


def _turn(chat: CoreMessages, answer: str) -> Turn:
    messages = [TurnMessage(_text(message), message["role"] == "user", _has_picture(message)) for message in chat]
    return Turn.last_of(messages, answer)


def _has_picture(message: Mapping[str, Any]) -> bool:
    return any(part["type"] == "image" for part in _parts(message))


def _text(message: Mapping[str, Any]) -> str:
    return " ".join(str(part["text"]) for part in _parts(message) if part["type"] == "text")


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else []
