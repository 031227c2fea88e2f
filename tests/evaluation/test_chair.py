from __future__ import annotations

import math

from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.mentions import ObjectVocabulary

WORLD = ObjectVocabulary.world()


def test_chair_counts_mentions_sentences_and_objects() -> None:
    one = score_caption("A dog and a cat. The dog is on the left.", {"dog", "car"}, WORLD)
    assert (one.mentioned, one.hallucinated, one.found, one.shown, one.words) == (3, 1, 1, 2, 11)
    two = score_caption("Two cars.", {"car"}, WORLD)
    result = chair([one, two])
    assert result == {"chair_s": 0.5, "chair_i": 0.25, "recall": 2 / 3, "words": 6.5}


def test_chair_of_nothing_is_no_number() -> None:
    assert all(math.isnan(value) for value in chair([]).values())
    silent = chair([score_caption("Nothing here.", {"dog"}, WORLD)])
    assert math.isnan(silent["chair_i"])
    assert silent["recall"] == 0
