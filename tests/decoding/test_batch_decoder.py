"""Batches: every row comes out as it would alone."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from saliency_guard import LocoREConfig, SaliencyConfig, SGRSConfig, score_answer
from saliency_guard.answer import TokenGrounding
from saliency_guard.decoding.batch_decoder import Row, decode_together
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.session import Session
from saliency_guard.saliency.scoring import score_together


def shortened(case: tiny.Case, dropped: int) -> dict[str, torch.Tensor]:
    """The same prompt with fewer tokens after its images."""
    ids = case.inputs["input_ids"]
    keep = ids.shape[1] - dropped
    return {name: value[:, :keep] if value.shape == ids.shape else value for name, value in case.inputs.items()}


def prompts(case: tiny.Case) -> list[dict[str, torch.Tensor]]:
    return [case.inputs, shortened(case, 1), case.inputs, shortened(case, 1)]


def only_text(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    scores = scores.clone()
    scores[..., tiny.IMAGE :] = -torch.inf
    return scores


def decoders(case: tiny.Case, **rules: Any) -> list[Decoder]:
    locore = rules.pop("locore", None)
    return [
        Decoder(Session(case.model, inputs, locore=locore), processor=only_text, seed=seed, **rules)
        for seed, inputs in enumerate(prompts(case))
    ]


def numbers(*values: float | None) -> list[float]:
    """None stands apart from every score."""
    return [-1.0 if value is None else value for value in values]


def assert_same(together: list[TokenGrounding], alone: list[TokenGrounding]) -> None:
    assert [token.token_id for token in together] == [token.token_id for token in alone]
    for ours, expected in zip(together, alone, strict=True):
        assert numbers(ours.saliency, ours.threshold) == pytest.approx(
            numbers(expected.saliency, expected.threshold), rel=1e-9
        )
        assert ours.logprob == pytest.approx(expected.logprob, rel=1e-9)
        assert ours.shares == pytest.approx(expected.shares, rel=1e-9)
        assert [r.token_id for r in ours.rejected] == [r.token_id for r in expected.rejected]


RULES: dict[str, dict[str, Any]] = {
    "sgrs and locore": {"sgrs": SGRSConfig(alpha=0.9), "locore": LocoREConfig(beta=0.3, window=4)},
    "drafts of five": {"sgrs": SGRSConfig(alpha=0.9, draft_length=5)},
    "scores": {"saliency": SaliencyConfig()},
    "locore": {"locore": LocoREConfig(renormalize=False)},
}
EVERY_MODEL = [(name, "sgrs and locore") for name in tiny.BUILDERS if name != "llava-gqa"]
EVERY_RULE = [("llava-gqa", rule) for rule in RULES]


@pytest.mark.parametrize(("name", "rule"), [*EVERY_MODEL, *EVERY_RULE])
def test_a_row_is_what_it_is_alone(name: str, rule: str) -> None:
    exact = tiny.to(tiny.build(name), torch.float64)
    rules = RULES[rule]
    rooms = [12, 8, 6, 12]
    alone = [
        [token.grounding for token in decoder.tokens(room)]
        for decoder, room in zip(decoders(exact, **rules), rooms, strict=True)
    ]
    rows = [Row(decoder, room) for decoder, room in zip(decoders(exact, **rules), rooms, strict=True)]
    together: list[list[TokenGrounding]] = [[] for _ in rows]
    for index, tokens in decode_together(rows):
        together[index] += [token.grounding for token in tokens]
    for ours, expected in zip(together, alone, strict=True):
        assert_same(ours, expected)
    if "sgrs" in rules:
        assert any(token.rejected for tokens in together for token in tokens)


def test_a_row_ends_at_its_end_token_and_where_it_is_told(llava: tiny.Case) -> None:
    exact = tiny.to(llava, torch.float64)
    alone = [
        [token.grounding for token in decoder.tokens(20)] for decoder in decoders(exact, saliency=SaliencyConfig())
    ]
    end = alone[1][4].token_id
    rules = {"saliency": SaliencyConfig(), "eos": frozenset({end})}
    rows = [Row(decoder, 20) for decoder in decoders(exact, **rules)]
    together: list[list[int]] = [[] for _ in rows]
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    for index, tokens in decode_together(rows):
        together[index] += [token.token_id for token in tokens]
        rows[0].done = True
    whole = [[token.token_id for token in tokens] for tokens in alone]
    for index in (1, 2, 3):
        stop = whole[index].index(end) + 1 if end in whole[index] else 20
        assert together[index] == whole[index][:stop]
    assert together[0] == whole[0][: len(together[0])]
    assert 1 <= len(together[0]) <= 16


def test_rows_that_are_done_are_not_run(llava: tiny.Case) -> None:
    sizes: list[int] = []
    handle = llava.model.get_decoder().register_forward_pre_hook(
        lambda _, __, named: sizes.append(len(named["inputs_embeds"])), with_kwargs=True
    )
    rows = [Row(decoder, room) for decoder, room in zip(decoders(llava), (3, 40, 3, 3), strict=True)]
    sizes.clear()
    for _ in decode_together(rows):
        pass
    handle.remove()
    assert sizes.count(4) == 16  # one round of drafts
    assert sizes.count(1) == 40 - 16


def test_the_model_is_free_between_rounds(llava: tiny.Case) -> None:
    before = llava.model.config._attn_implementation
    rounds = 0
    for _ in decode_together([Row(decoder, 6) for decoder in decoders(llava, sgrs=SGRSConfig(alpha=0.9))]):
        rounds += 1
        assert llava.model.config._attn_implementation == before
        assert not llava.model.get_decoder().layers[-1]._forward_hooks
    assert rounds > 1


@pytest.mark.parametrize(
    ("config", "locore"),
    [
        (SaliencyConfig(), LocoREConfig(beta=0.3, window=3)),
        (SaliencyConfig(layers=(0.0, 1.0), history="after_image"), None),
    ],
)
def test_scores_of_a_batch_are_those_alone(
    case: tiny.Case, config: SaliencyConfig, locore: LocoREConfig | None
) -> None:
    exact = tiny.to(case, torch.float64)
    answers = [tiny.ANSWER, tiny.ANSWER[:3], [12], tiny.ANSWER[::-1]]
    sessions = [Session(exact.model, inputs, locore=locore) for inputs in prompts(exact)]
    for together, inputs, answer in zip(
        score_together(sessions, answers, config), prompts(exact), answers, strict=True
    ):
        alone = score_answer(exact.model, inputs, answer, config=config, locore=locore)
        torch.testing.assert_close(together.saliency, alone.saliency, rtol=1e-9, atol=1e-12, equal_nan=True)
        torch.testing.assert_close(together.logprobs, alone.logprobs, rtol=1e-9, atol=1e-9)
        for name, values in alone.shares.items():
            torch.testing.assert_close(together.shares[name], values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(tiny.RECURRENT))
def test_recurrent_models_take_turns(name: str) -> None:
    exact = tiny.to(tiny.build(name), torch.float64)
    rules = {"sgrs": SGRSConfig(alpha=0.9)}
    alone = [[token.grounding for token in decoder.tokens(6)] for decoder in decoders(exact, **rules)]
    together: list[list[TokenGrounding]] = [[] for _ in alone]
    for index, tokens in decode_together([Row(decoder, 6) for decoder in decoders(exact, **rules)]):
        together[index] += [token.grounding for token in tokens]
    for ours, expected in zip(together, alone, strict=True):
        assert_same(ours, expected)
