"""Sessions side by side: each row is what its session would be alone, and is handed back so."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from saliency_guard import LocoREConfig
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.session import Session

TOKENS = [[12, 33, 7], [51, 64, 20], [71, 33, 5]]


def prompts(case: tiny.Case) -> list[dict[str, torch.Tensor]]:
    """Of different lengths."""
    ids = case.inputs["input_ids"]
    return [
        {
            name: value[:, : ids.shape[1] - dropped] if value.shape == ids.shape else value
            for name, value in case.inputs.items()
        }
        for dropped in (0, 1, 0)
    ]


def sessions(case: tiny.Case, **settings: Any) -> list[Session]:
    return [Session(case.model, inputs, **settings) for inputs in prompts(case)]


@pytest.mark.parametrize("locore", [None, LocoREConfig(beta=0.4, window=3)])
def test_a_row_has_the_logits_that_it_has_alone(case: tiny.Case, locore: LocoREConfig | None) -> None:
    exact = tiny.to(case, torch.float64)
    batch = Batch(sessions(exact, locore=locore))
    first = batch.run([row[:2] for row in TOKENS])
    second = batch.run([row[2:] for row in TOKENS])
    for row, (session, tokens) in enumerate(zip(sessions(exact, locore=locore), TOKENS, strict=True)):
        alone = session.run(tokens).logits
        together = torch.cat([first.logits[row], second.logits[row]])
        torch.testing.assert_close(together, alone.view_as(together), rtol=1e-9, atol=1e-9)


def test_only_some_rows_may_have_gains(llava: tiny.Case) -> None:
    exact = tiny.to(llava, torch.float64)
    locore = LocoREConfig(beta=0.9, window=2)

    def mixed() -> list[Session]:
        return [Session(exact.model, exact.inputs, locore=locore), Session(exact.model, exact.inputs)]

    chunk = Batch(mixed()).run([TOKENS[0], TOKENS[0]])
    alone = [session.run(TOKENS[0]).logits.view_as(chunk.logits[0]) for session in mixed()]
    for row in range(2):
        torch.testing.assert_close(chunk.logits[row], alone[row], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(alone[0], alone[1])


def test_sessions_go_on_where_the_batch_left_them(case: tiny.Case) -> None:
    exact = tiny.to(case, torch.float64)
    batched, alone = sessions(exact), sessions(exact)
    batch = Batch(batched)
    assert batch.padding == (0, 1, 0)
    batch.run(TOKENS)
    batch.hand_back()
    for session, other, tokens in zip(batched, alone, TOKENS, strict=True):
        other.run(tokens)
        assert session.length == other.length
        assert list(session.tokens) == list(other.tokens) == tokens
        torch.testing.assert_close(session.run([9]).logits, other.run([9]).logits, rtol=1e-9, atol=1e-9)


def test_running_everything_once_more_gives_the_same_logits_and_a_tape(llava: tiny.Case) -> None:
    exact = tiny.to(llava, torch.float64)
    batch = Batch(sessions(exact))
    logits = batch.run(TOKENS).logits
    again = batch.rescore(layers=(2, 3, 4))
    torch.testing.assert_close(again.logits.detach(), logits, rtol=1e-9, atol=1e-9)
    assert again.tape is not None
    assert again.logits.requires_grad
