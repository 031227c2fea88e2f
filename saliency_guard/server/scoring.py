"""Scoring over HTTP: answers written elsewhere, and single statements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from saliency_guard.adapters.prompt_memo import CoreMessages
from saliency_guard.adapters.report import CLAIM_FIELDS, ReportDetail
from saliency_guard.adapters.run import Finished, finished
from saliency_guard.adapters.scorer import LocalScorer, fitted_saliency
from saliency_guard.answer import Claim, GroundedAnswer
from saliency_guard.batching.scheduler import DEFAULT_BATCH_SIZE
from saliency_guard.chat.detokenize import AnswerText
from saliency_guard.guard.outcome import LowGroundingError
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.lvlm import LVLM
from saliency_guard.server.body import StrictBody
from saliency_guard.server.errors import invalid
from saliency_guard.server.messages import core_messages
from saliency_guard.server.policies import policy_of, report_of
from saliency_guard.server.record import RequestRecord, new_id
from saliency_guard.server.state import ServerState
from saliency_guard.signals.verification import VerifyConfig
from saliency_guard.storage import json_value

_MOST_CLAIMS = 64
_CLAIM_FIELDS = {*CLAIM_FIELDS, "statement"}


class ScoreBody(StrictBody):
    """The body of ``POST /v1/score``: an answer from anywhere, as a text or as token ids of the model's tokenizer."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    model: str | None = None
    text: str | None = None
    token_ids: list[int] | None = None
    grounding_policy: dict[str, Any] | None = None
    grounding_report: ReportDetail | None = None


class VerifyBody(StrictBody):
    """The body of ``POST /v1/verify``: statements, or an answer that is taken apart into its claims."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    model: str | None = None
    text: str | None = None
    claims: Annotated[list[str], Field(min_length=1, max_length=_MOST_CLAIMS)] | None = None


async def judged(
    state: ServerState,
    record: RequestRecord,
    messages: CoreMessages,
    answer: AnswerText,
    *,
    policy: GuardPolicy | None,
) -> Finished:
    """An answer from elsewhere, scored, and decided on where there is a policy.

    Args:
        state: the server.
        record: of the request.
        messages: what it answers.
        answer: its text, or its token ids.
        policy: None decides nothing.

    Raises:
        LowGroundingError: by the policy.
    """
    scored = await LocalScorer(state.lvlm).ascore(messages, answer, policy)
    record.used(scored.usage)
    record.groundings.append(scored.grounding)
    if policy is None:
        end = finished(scored)
    else:
        try:
            outcome = policy.check(scored, messages=messages)
        except LowGroundingError as error:
            record.decisions.append("raised")
            state.metrics.raised(error)
            raise
        end = Finished(outcome.text, outcome.answer, outcome, (scored,))
    record.decisions.append(end.outcome.decision if end.outcome is not None else None)
    state.metrics.answer(end)
    return end


async def score(state: ServerState, record: RequestRecord, body: ScoreBody) -> dict[str, Any]:
    """The reply of ``POST /v1/score``.

    Raises:
        RequestError: unless there is exactly one of text and token ids.
        SaliencyGuardError: as of `LVLM.score`, and by a policy.
    """
    answer: AnswerText | None = body.token_ids if body.text is None else body.text
    if answer is None or (body.text is not None and body.token_ids is not None):
        msg = "give the answer as text or as token_ids"
        raise invalid(msg, "text")
    model = state.require_name(body.model)
    detail = report_of(body.grounding_report, state.settings)
    policy = policy_of(body.grounding_policy, state.settings)
    messages = await asyncio.to_thread(core_messages, body.messages, state.settings)
    async with state.queue.slot():
        end = await judged(state, record, messages, answer, policy=policy)
    return {
        "id": new_id("score"),
        "object": "score",
        "model": model,
        "text": end.text,
        "grounding": json_value(end.report(detail)),
        "usage": end.usage.model_dump(),
    }


async def verify(state: ServerState, record: RequestRecord, body: VerifyBody) -> dict[str, Any]:
    """The reply of ``POST /v1/verify``: for every statement, or every claim of an answer, whether it holds.

    Raises:
        RequestError: unless there is exactly one of text and claims.
        SaliencyGuardError: as of `LVLM.score`.
    """
    if (body.text is None) == (body.claims is None):
        msg = "give claims, a list of statements, or text, an answer that is taken apart into its claims"
        raise invalid(msg, "claims")
    model = state.require_name(body.model)
    messages = await asyncio.to_thread(core_messages, body.messages, state.settings)
    lvlm = state.lvlm
    statements = [body.text] if body.text is not None else list(body.claims or ())
    fitted = lvlm.calibrator.verify if lvlm.calibrator is not None else None
    async with state.queue.slot():
        answers = await _scored_together(lvlm, messages, statements, fitted or VerifyConfig())
    for answer in answers:
        record.used(answer.usage)
        record.groundings.append(answer.grounding)
    claims = [_statement(answer) for answer in answers]
    if body.text is not None:
        claims = [{**_claim(claim), "reason": _reason(answers[0], claim)} for claim in answers[0].claims]
    return {"id": new_id("verify"), "object": "verification", "model": model, "claims": json_value(claims)}


async def _scored_together(
    lvlm: LVLM, messages: CoreMessages, statements: Sequence[str], verify: VerifyConfig
) -> list[GroundedAnswer]:
    """Statements, scored side by side with the calls of all other requests; the first error ends all."""
    prompt = await asyncio.to_thread(lvlm.prepare, messages)
    places = asyncio.Semaphore(DEFAULT_BATCH_SIZE)  # As many threads as a batch has rows.

    async def scored(statement: str) -> GroundedAnswer:
        async with places:
            return await lvlm.ascore(prompt, statement, saliency=fitted_saliency(lvlm), verify=verify)

    tasks = [asyncio.ensure_future(scored(statement)) for statement in statements]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _statement(answer: GroundedAnswer) -> dict[str, Any]:
    """What is known of a statement: it holds if all of its claims do."""
    verified = [claim.verified for claim in answer.claims]
    known = [value for value in verified if value is not None]
    return {
        "text": answer.text,
        "grounding": answer.grounding,
        "calibrated": answer.calibrated,
        "verified": min(known) if known and len(known) == len(verified) else None,
        "reason": answer.grounding_reason,
        "claims": [_claim(claim) for claim in answer.claims],
    }


def _claim(claim: Claim) -> dict[str, Any]:
    return claim.model_dump(mode="json", include=_CLAIM_FIELDS)


def _reason(answer: GroundedAnswer, claim: Claim) -> str | None:
    """Why a claim has no grounding; None where it has one."""
    return None if claim.grounding is not None else answer.grounding_reason
