from __future__ import annotations

from saliency_guard import Attempt, GroundedAnswer, GuardPolicy, LowGroundingError, Usage
from saliency_guard.adapters import finished, not_applicable
from saliency_guard.adapters.run import Finished
from saliency_guard.batching.scheduler import BatchingStatistics
from saliency_guard.server.metrics import Metrics
from saliency_guard.server.queue import RequestQueue
from saliency_guard.server.record import RequestRecord

USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)


def answer(grounding: float | None) -> GroundedAnswer:
    return GroundedAnswer(
        text="A cat.", tokens=(), finish_reason="stop", usage=USAGE, model_id="none", grounding=grounding
    )


async def test_what_is_counted() -> None:
    queue = RequestQueue(2, 2)
    metrics = Metrics(queue)
    metrics.answer(finished(answer(0.95)))
    metrics.answer(finished(answer(None)))
    outcome = not_applicable("Hello.", "there is no picture in the chat", GuardPolicy(min_grounding=0.5))
    metrics.answer(Finished("Hello.", None, outcome, ()))
    refused = Attempt(answer=answer(0.1), score=0.1, refused="grounding 0.100 is below 0.500")
    unscored = Attempt(answer=answer(None), score=None, refused=None, reason="there is no calibration")
    metrics.raised(LowGroundingError(refused.answer, 0.1, 0.5, (refused, unscored, refused, refused)))
    record = RequestRecord("/v1/score", "POST", status=200)
    record.used(USAGE)
    record.token()
    metrics.request(record)
    async with queue.slot():
        text = metrics.text().decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    expected = {
        "saliency_guard_requests_running": 1,
        "saliency_guard_requests_waiting": 0,
        'saliency_guard_requests_total{route="/v1/score",status="200"}': 1,
        "saliency_guard_time_to_first_token_seconds_count": 1,
        "saliency_guard_prompt_tokens_total": 3,
        "saliency_guard_completion_tokens_total": 2,
        'saliency_guard_grounding_bucket{le="0.9"}': 1,
        'saliency_guard_grounding_bucket{le="1.0"}': 2,
        'saliency_guard_answers_total{decision="none"}': 2,
        'saliency_guard_answers_total{decision="not_applicable"}': 1,
        'saliency_guard_answers_total{decision="raised"}': 1,
        "saliency_guard_refused_total": 3,
        "saliency_guard_unscored_total": 2,
    }
    assert {name: float(lines[name]) for name in expected} == expected


async def test_two_servers_in_one_process_count_apart() -> None:
    first, second = Metrics(RequestQueue(1, 1)), Metrics(RequestQueue(1, 1))
    first.answer(finished(answer(None)))
    assert b"saliency_guard_unscored_total 1.0" in first.text()
    assert b"saliency_guard_unscored_total 0.0" in second.text()


def test_answers_side_by_side_are_counted_by_the_model() -> None:
    metrics = Metrics(RequestQueue(1, 1))
    known = [BatchingStatistics(rounds=2, rows=6, largest=4, active=3, waiting=1)]
    metrics.batching(lambda: known[-1])
    text = metrics.text().decode()
    assert "saliency_guard_batch_rounds_total 2.0" in text
    assert "saliency_guard_batch_rows_total 6.0" in text
    assert "saliency_guard_batch_largest 4.0" in text
    assert "saliency_guard_batch_active 3.0" in text
    assert "saliency_guard_batch_waiting 1.0" in text
    known.append(BatchingStatistics(rounds=3, rows=7, largest=4, active=0, waiting=0))
    metrics.batching(lambda: known[-1])  # A model that is loaded once more.
    assert "saliency_guard_batch_rounds_total 3.0" in metrics.text().decode()
