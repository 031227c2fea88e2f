"""The detection protocol: mentions from real captions, and the ranking on mentions whose truth is known."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.detection import SCALARS, MentionTable, collect
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.language import DESCRIBE


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


def test_a_table_comes_back_from_disk(collected: MentionTable, tmp_path: Path) -> None:
    collected.save(tmp_path / "mentions.npz")
    again = MentionTable.load(tmp_path / "mentions.npz")
    for field in fields(MentionTable):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(collected, field.name))
