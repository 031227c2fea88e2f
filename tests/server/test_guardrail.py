"""LiteLLM's guardrail, asked of the application in this process as LiteLLM asks it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from PIL import Image
from served import chat_about, data_uri, error_of

from saliency_guard import GroundedAnswer, GuardPolicy
from saliency_guard.server.gate import GUARDRAIL
from saliency_guard.server.state import ServerState

DESCRIBE = "Describe the image in detail."
FALSE = "There is an elephant."
WHO = {"user_api_key_hash": "x", "user_api_key_team_id": None}


@pytest.fixture
def true(described: GroundedAnswer) -> str:
    """What is true of the picture."""
    return f"There is a {next(claim.noun for claim in described.claims if claim.kind == 'object')}."


async def asked(client: httpx.AsyncClient, input_type: str, policy: dict[str, Any], **body: Any) -> dict[str, Any]:
    params = {"grounding_policy": policy} if policy else {}
    given = {
        "input_type": input_type,
        "litellm_call_id": "call-1",
        "litellm_version": "1.101.0",
        "request_data": WHO,
        "additional_provider_specific_params": params,
        **body,
    }
    reply = await client.post(GUARDRAIL, json=given)
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


async def test_an_answer_is_judged_by_the_chat_that_was_shown_before(
    client: httpx.AsyncClient, picture: Image.Image, true: str
) -> None:
    policy = {"min_grounding": 0.5}
    seen = {"texts": [DESCRIBE], "images": [data_uri(picture)], "structured_messages": chat_about(picture)}
    assert await asked(client, "request", policy, **seen) == {"action": "NONE"}
    passed = await asked(client, "response", policy, texts=[true])
    assert passed["action"] == "NONE"
    assert passed["grounding"][0]["decision"] == "accepted"
    await asked(client, "request", policy, **seen)
    blocked = await asked(client, "response", policy, texts=[true, FALSE])
    assert blocked["action"] == "BLOCKED"
    assert "below 0.500" in blocked["blocked_reason"]
    assert [report["decision"] for report in blocked["grounding"]] == ["accepted", "flagged"]
    await asked(client, "request", policy, **seen)
    raised = await asked(client, "response", {**policy, "on_low": "raise"}, texts=[FALSE])
    assert (raised["action"], raised["grounding"][0]["decision"]) == ("BLOCKED", "raised")


async def test_an_answer_is_repaired_or_replaced(client: httpx.AsyncClient, picture: Image.Image, true: str) -> None:
    seen = {"texts": [DESCRIBE], "images": [data_uri(picture)]}
    repair = {"min_grounding": 0.5, "on_low": "repair"}
    await asked(client, "request", repair, **seen)
    repaired = await asked(client, "response", repair, texts=[f"{true} {FALSE}", "", true])
    assert repaired["action"] == "GUARDRAIL_INTERVENED"
    assert repaired["texts"] == [true, "", true]
    fallback = {"min_grounding": 0.5, "on_low": "fallback", "fallback": "I can not tell."}
    await asked(client, "request", fallback, **seen)
    replaced = await asked(client, "response", fallback, texts=[FALSE])
    assert replaced["texts"] == ["I can not tell."]


async def test_an_answer_whose_chat_is_not_known_is_blocked_unless_the_policy_lets_it_pass(
    client: httpx.AsyncClient,
) -> None:
    blocked = await asked(client, "response", {"min_grounding": 0.5}, texts=["A cat."])
    assert blocked["action"] == "BLOCKED"
    assert "pre_call" in blocked["blocked_reason"]
    assert blocked["grounding"][0]["decision"] == "unscored"
    passed = await asked(client, "response", {"min_grounding": 0.5, "unscored": "pass"}, texts=["A cat."])
    assert passed["action"] == "NONE"


async def test_a_chat_without_a_picture_has_nothing_to_judge(client: httpx.AsyncClient) -> None:
    policy = {"min_grounding": 0.5}
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    await asked(client, "request", policy, texts=["What is the capital of France?"], structured_messages=messages)
    told = await asked(client, "response", policy, texts=["Paris."])
    assert told["action"] == "NONE"
    assert told["grounding"][0]["decision"] == "not_applicable"


async def test_a_later_turn_about_something_else_has_nothing_to_judge(
    client: httpx.AsyncClient, picture: Image.Image
) -> None:
    policy = {"min_grounding": 0.5}
    messages = [
        *chat_about(picture),
        {"role": "assistant", "content": "A cup."},
        {"role": "user", "content": "What is 3 + 4?"},
    ]
    await asked(client, "request", policy, texts=["x"], structured_messages=messages)
    told = await asked(client, "response", policy, texts=["7."])
    assert told["grounding"][0]["decision"] == "not_applicable"


async def test_the_server_s_policy_holds(state: ServerState, client: httpx.AsyncClient, picture: Image.Image) -> None:
    reply = await client.post(GUARDRAIL, json={"input_type": "response", "texts": ["A cat."]})
    assert (reply.status_code, error_of(reply)["code"]) == (400, "no_policy")
    state.settings.policy = GuardPolicy(min_grounding=0.5)
    assert (await asked(client, "response", {}, texts=[FALSE], images=[data_uri(picture)]))["action"] == "BLOCKED"
    params = {"grounding_policy": {"min_grounding": 0.0}}
    body = {"input_type": "response", "texts": [], "additional_provider_specific_params": params}
    assert (await client.post(GUARDRAIL, json=body)).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input_type": "both"},
        {"input_type": "request", "texts": "x"},
        {"input_type": "request", "additional_provider_specific_params": {"threshold": 1}},
        {"input_type": "request", "additional_provider_specific_params": {"grounding_policy": 7}},
        {"input_type": "request", "structured_messages": [{"role": "x"}]},
        {"input_type": "request", "images": ["file:///etc/passwd"], "texts": ["x"]},
    ],
)
async def test_wrong_requests(state: ServerState, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    state.settings.policy = GuardPolicy(min_grounding=0.5)
    assert (await client.post(GUARDRAIL, json=body)).status_code == 400


@pytest.mark.parametrize("body", [{"texts": ["a"] * 2_001}, {"litellm_call_id": "a" * 1_001}])
async def test_what_is_shown_is_limited(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    reply = await client.post(GUARDRAIL, json={"input_type": "response", **body})
    assert reply.status_code == 400
    assert error_of(reply)["param"] == next(iter(body))
