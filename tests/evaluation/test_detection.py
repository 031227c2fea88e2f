"""The detection protocol: mentions from real captions, and the ranking on mentions whose truth is known."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from saliency_guard import LVLM
from saliency_guard.calibration.features import lens_evidence
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation import probe
from saliency_guard.evaluation.detection import SCALARS, MentionTable, collect
from saliency_guard.evaluation.evidence import detection_section
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.ranking import quartile_rates, rank
from saliency_guard.evaluation.world import pictures, write_answers
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.signals import PRIORS
from saliency_guard.signals.trace import trace_answer


@pytest.fixture(scope="module")
def collected(lvlm: LVLM) -> MentionTable:
    return collect(lvlm, pictures("development", 6), max_new_tokens=40)


def test_every_mention_of_every_caption_is_a_row(lvlm: LVLM, collected: MentionTable) -> None:
    shown = list(pictures("development", 6))
    expected = []
    for picture in shown:
        answer = lvlm.generate(chat(picture.image, DESCRIBE), max_new_tokens=40)
        for mention in ObjectVocabulary.world().find(answer.text):
            stops = np.cumsum([len(token.text) for token in answer.tokens])
            at = int(np.argmax(stops > mention.start))
            expected.append((picture.scene.seed, mention.name not in picture.scene.counts, at, answer.tokens[at]))
    greedy = collected.where(~collected.sampled)
    assert greedy.picture.tolist() == [row[0] for row in expected]
    assert greedy.hallucinated.tolist() == [row[1] for row in expected]
    assert greedy.priors[:, 0].tolist() == [row[2] for row in expected]
    nll = greedy.signals[:, SCALARS.index("nll")]
    np.testing.assert_allclose(nll, [-row[3].logprob for row in expected], rtol=1e-3, atol=1e-4)
    saliency = greedy.signals[:, SCALARS.index("saliency")]
    np.testing.assert_allclose(saliency, [row[3].saliency for row in expected], rtol=1e-3, atol=1e-5)
    assert collected.sampled.any()


def test_the_evidence_of_a_word_is_what_the_lens_shows_of_it(lvlm: LVLM) -> None:
    picture = next(pictures("development", 1))
    ids = lvlm.tokenizer(" a dog", add_special_tokens=False)["input_ids"]
    trace = trace_answer(lvlm.model, lvlm.inputs(chat(picture.image, DESCRIBE)), ids)
    found = lens_evidence(trace)
    assert found.shape == (len(ids), len(trace.lens_layers) * 10)
    layers = found.unflatten(1, (len(trace.lens_layers), 10))
    assert len(trace.lens) == len(trace.lens_layers) > 0
    for layer, values in enumerate(trace.lens):
        for token in range(len(ids)):
            column = values[:, token]
            torch.testing.assert_close(layers[token, layer, :4], column.sort(descending=True).values[:4])
            counts = [float((column.exp() > level).sum()) for level in (0.1, 0.3, 0.6, 0.9)]
            assert layers[token, layer, 4:8].tolist() == counts
            assert layers[token, layer, 8] == trace.lens_entropy[layer, column.argmax()]
            looks = trace.rows[token, trace.image_positions]
            torch.testing.assert_close(layers[token, layer, 9].exp(), (looks / looks.sum()) @ column.exp())


def test_a_table_comes_back_from_disk(collected: MentionTable, tmp_path: Path) -> None:
    collected.save(tmp_path / "mentions.npz")
    again = MentionTable.load(tmp_path / "mentions.npz")
    for field in fields(MentionTable):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(collected, field.name))


def test_a_batch_says_what_one_picture_alone_says(lvlm: LVLM) -> None:
    shown = [picture.image for picture in pictures("development", 3)]
    questions = [DESCRIBE, "Is there a dog in the image?", "How many cups are there in the image?"]
    together = write_answers(lvlm, shown, questions, max_new_tokens=24)
    alone = [
        write_answers(lvlm, [image], [question], max_new_tokens=24)[0]
        for image, question in zip(shown, questions, strict=True)
    ]
    assert together == alone


def synthetic(pictures_: int, seed: int) -> MentionTable:
    """NLL tells a little, S the opposite way; one head of the saliency vector tells nearly all."""
    rng = np.random.default_rng(seed)
    n = pictures_ * 8
    words = rng.integers(0, 6, n)
    wrong = rng.random(n) < np.where(words == 0, 0.7, 0.2)
    signals = rng.normal(size=(n, len(SCALARS)))
    signals[:, SCALARS.index("nll")] += wrong
    signals[:, SCALARS.index("saliency")] -= wrong
    signals[rng.random(n) < 0.1, SCALARS.index("saliency_ratio")] = np.nan
    heads = np.exp(rng.normal(size=(n, 12)))
    heads[:, 3] *= np.exp(3.0 * wrong)
    return MentionTable(
        picture=np.repeat(np.arange(pictures_), 8),
        sampled=np.tile([False, True], n // 2),
        hallucinated=wrong,
        priors=np.stack([np.tile(np.arange(8), pictures_), rng.integers(0, 2, n), rng.integers(0, 5, n)], 1) * 1.0,
        signals=signals,
        saliency=heads,
        signed=rng.normal(size=(n, 12)),
        attention=np.exp(rng.normal(size=(n, 12))),
        evidence=rng.normal(size=(n, 5)),
        state=rng.normal(size=(n, 4)),
        word=words,
    )


def test_the_ranking_finds_what_is_there() -> None:
    result = rank("made up", 240, synthetic(240, 0), source=synthetic(120, 1), samples=100)
    for mode in ("greedy", "sampled"):
        found = result.modes[mode]
        by_name = {(one.kind, one.name): one for one in found.ranks}
        assert by_name["signal", "nll"].high_means == "hallucinated"
        assert by_name["signal", "saliency"].high_means == "true"
        for name in ("nll", "saliency"):
            assert by_name["signal", name].auroc.value > 0.65
            assert by_name["signal", name].within_bins.value > 0.65
        assert by_name["combination", "position only"].auroc.low < 0.55
        assert by_name["combination", "saliency probe"].auroc.value > 0.9
        assert by_name["combination", "attention probe"].auroc.value < 0.65
        # One word is wrong more often than the others; among mentions of one word that says nothing.
        assert by_name["combination", "word only"].auroc.low > 0.55
        assert by_name["combination", "word only"].within_words.value == pytest.approx(0.5)
        assert by_name["combination", "saliency probe"].within_words.value > 0.9
        everything = by_name["combination", "all"].auroc
        assert everything.low < everything.value < everything.high
        assert everything.value > by_name["combination", "signals"].auroc.value
        lost = by_name["without", "saliency by head"].lost
        assert lost.low > 0.02
        assert lost.value == pytest.approx(
            everything.value - by_name["without", "saliency by head"].auroc.value, abs=1e-9
        )
        assert by_name["without", "evidence by layer"].lost.low < 0.01
        assert by_name["transferred", "all"].auroc.value > 0.85
        assert (found.mentions, found.tested) == (960, 480)
        assert found.quartiles[0].value > found.quartiles[3].value
        assert found.saliency_means[0].low > found.saliency_means[1].high
    assert result.pictures == 240


def test_greedy_and_sampled_captions_are_never_told_apart() -> None:
    """A signal that says how a caption was written, and nothing else, detects nothing."""
    table = synthetic(200, 0)
    rng = np.random.default_rng(5)
    table.signals[:, SCALARS.index("margin")] = table.sampled + 0.01 * rng.normal(size=len(table))
    table.hallucinated[:] = rng.random(len(table)) < np.where(table.sampled, 0.6, 0.1)
    result = rank("made up", 200, table, samples=100)
    assert set(result.modes) == {"greedy", "sampled"}
    for mode in result.modes.values():
        margin = next(one for one in mode.ranks if one.name == "margin")
        assert margin.auroc.low < 0.55


def test_no_picture_is_fitted_and_tested_on() -> None:
    table = synthetic(9, 0)
    fitting, testing = probe.halves(table)
    assert not set(fitting.picture) & set(testing.picture)
    assert len(fitting) + len(testing) == len(table)


def test_too_few_mentions_are_said_to_be_too_few() -> None:
    result = rank("made up", 2, synthetic(2, 0), samples=20)
    assert all(mode.ranks == () for mode in result.modes.values())
    assert "Too few mentions" in detection_section([result], "the command", model="m", samples=20)


def test_quartiles_are_those_of_the_score() -> None:
    table = synthetic(40, 3)
    scores = table.signals[:, SCALARS.index("saliency")]
    edges = np.quantile(scores, [0.25, 0.75])
    rates = quartile_rates(table, 50)
    assert rates[0].value == pytest.approx(table.hallucinated[scores <= edges[0]].mean(), abs=0.02)
    assert rates[3].value == pytest.approx(table.hallucinated[scores >= edges[1]].mean(), abs=0.02)
    assert all(rate.low <= rate.value <= rate.high for rate in rates)


def test_every_signal_is_in_one_group_of_features() -> None:
    table = synthetic(1, 0)
    table.signals[:] = np.arange(len(SCALARS))
    found = [int(v) for name in (*probe.SINGLE_SIGNALS,) for v in probe.FEATURES[name](table)[0]]
    assert sorted(found) == [index for index, name in enumerate(SCALARS) if name not in PRIORS]


def test_captions_that_name_nothing_are_an_empty_table(lvlm: LVLM) -> None:
    table = collect(lvlm, pictures("development", 2), max_new_tokens=1)
    assert len(table) == 0
    result = rank("made up", 2, table, samples=20)
    assert all(mode.ranks == () and mode.quartiles == () for mode in result.modes.values())
    assert "0 mentions" in detection_section([result], "the command", model="m", samples=20)
