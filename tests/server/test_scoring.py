"""Scoring and verification, asked of the application in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from PIL import Image
from served import PATIENCE, chat_about, error_of

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.answer_builder import AnswerBuilder, FinishedAnswer, WantedScores
from saliency_guard.server.state import ServerState


async def test_a_text_and_its_tokens_have_the_same_report(
    client: httpx.AsyncClient, lvlm: LVLM, picture: Image.Image, described: GroundedAnswer
) -> None:
    expected = described
    ids = [token.token_id for token in expected.tokens]
    messages = chat_about(picture)
    text = await client.post("/v1/score", json={"messages": messages, "text": expected.text})
    tokens = await client.post("/v1/score", json={"messages": messages, "token_ids": [*ids, *lvlm.end_tokens]})
    assert text.status_code == tokens.status_code == 200
    told, same = text.json(), tokens.json()
    assert told["grounding"] == same["grounding"]
    assert told["text"] == same["text"] == expected.text
    assert told["grounding"]["score"] == pytest.approx(expected.grounding, abs=1e-4)
    assert "tokens" not in told["grounding"]
    assert told["usage"]["completion_tokens"] == len(ids)


async def test_a_policy_decides_on_what_is_scored(client: httpx.AsyncClient, picture: Image.Image) -> None:
    body = {"messages": chat_about(picture), "text": "There is a green elephant. It has a hat.", "model": "embedded"}

    async def scored(**policy: Any) -> httpx.Response:
        return await client.post("/v1/score", json={**body, "grounding_policy": {"min_grounding": 0.5, **policy}})

    raised = await scored(on_low="raise")
    assert raised.status_code == 422
    assert error_of(raised)["grounding"]["decision"] == "raised"
    repaired = (await scored(on_low="repair")).json()
    assert repaired["grounding"]["decision"] == "repaired"
    assert "elephant" not in repaired["text"]
    fallback = (await scored(on_low="fallback", fallback="No.")).json()
    assert (fallback["text"], fallback["grounding"]["decision"]) == ("No.", "fallback")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text": "A cat.", "token_ids": [1]},
        {"text": " "},
        {"token_ids": []},
        {"token_ids": [10**9]},
        {"token_ids": ["a"]},
        {"text": 7},
        {"text": "A cat.", "model": 7},
        {"text": "A cat.", "unknown": 7},
    ],
)
async def test_what_cannot_be_scored(client: httpx.AsyncClient, picture: Image.Image, given: dict[str, Any]) -> None:
    reply = await client.post("/v1/score", json={"messages": chat_about(picture), **given})
    assert reply.status_code == 400
    assert error_of(reply)["type"] == "invalid_request_error"


async def test_a_model_that_is_not_here(client: httpx.AsyncClient, picture: Image.Image) -> None:
    body = {"messages": chat_about(picture), "text": "A cat.", "model": "gpt-4o"}
    reply = await client.post("/v1/score", json=body)
    assert (reply.status_code, error_of(reply)["param"]) == (404, "model")


async def test_statements_are_verified(
    client: httpx.AsyncClient, state: ServerState, picture: Image.Image, described: GroundedAnswer
) -> None:
    said = described
    true = next(claim.noun for claim in said.claims if claim.kind == "object")
    claims = [f"There is a {true}.", "There is an elephant."]
    reply = await client.post("/v1/verify", json={"messages": chat_about(picture), "claims": claims})
    first, second = reply.json()["claims"]
    assert [first["text"], second["text"]] == claims
    assert first["verified"] > 0.5 > second["verified"]
    assert first["grounding"] > 0.5 > second["grounding"]
    assert first["calibrated"]
    assert first["reason"] is None
    assert state.queue.running == 0


async def test_statements_of_several_requests_are_scored_side_by_side(
    client: httpx.AsyncClient, state: ServerState, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [
        {"messages": chat_about(picture, question), "claims": ["There is a dog.", "There is an elephant."]}
        for question in ("What is there?", "Describe the image.", "What do you see?")
    ]
    alone = [(await client.post("/v1/verify", json=body)).json()["claims"] for body in bodies]
    together: list[int] = []
    ended = AnswerBuilder.ended

    def counted(self: AnswerBuilder, answers: Sequence[FinishedAnswer], wanted: WantedScores) -> list[GroundedAnswer]:
        together.append(len(answers))
        late = time.monotonic() + PATIENCE
        while together == [1] and state.lvlm.batching.active < 6 and time.monotonic() < late:
            time.sleep(0.01)  # Until the others have come.
        return ended(self, answers, wanted)

    monkeypatch.setattr(AnswerBuilder, "ended", counted)
    replies = await asyncio.gather(*(client.post("/v1/verify", json=body) for body in bodies))
    assert sum(together) == 6
    assert max(together) >= 5
    for reply, expected in zip(replies, alone, strict=True):
        claims = reply.json()["claims"]
        assert [claim["text"] for claim in claims] == [claim["text"] for claim in expected]
        for name in ("verified", "grounding"):
            assert [claim[name] for claim in claims] == pytest.approx([claim[name] for claim in expected], abs=1e-4)


async def test_an_answer_is_taken_apart_and_verified(
    client: httpx.AsyncClient, picture: Image.Image, described: GroundedAnswer
) -> None:
    said = described
    reply = await client.post("/v1/verify", json={"messages": chat_about(picture), "text": said.text})
    told = reply.json()["claims"]
    assert [claim["text"] for claim in told] == [claim.text for claim in said.claims]
    assert [claim["verified"] for claim in told] == pytest.approx([claim.verified for claim in said.claims], abs=1e-4)


async def test_a_model_without_a_calibration_verifies_and_says_that_it_has_none(
    state: ServerState, lvlm: LVLM, picture: Image.Image, client: httpx.AsyncClient
) -> None:
    state.settings.lvlm = lvlm.with_calibrator(None)
    state.load()
    body = {"messages": chat_about(picture), "claims": ["There is an elephant."]}
    (claim,) = (await client.post("/v1/verify", json=body)).json()["claims"]
    assert claim["verified"] < 0.5
    assert claim["grounding"] is None
    assert "no calibration" in claim["reason"]


@pytest.mark.parametrize("given", [{}, {"claims": []}, {"claims": ["x"], "text": "x"}, {"claims": ["x"] * 65}])
async def test_what_cannot_be_verified(client: httpx.AsyncClient, picture: Image.Image, given: dict[str, Any]) -> None:
    reply = await client.post("/v1/verify", json={"messages": chat_about(picture), **given})
    assert reply.status_code == 400
