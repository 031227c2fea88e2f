from __future__ import annotations

import random

from saliency_guard.scenes.language import CANNOT_TELL
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training import documents, frames


def test_a_fact_stands_in_its_document_and_answers_its_question() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        known = documents.facts(rng, 4)
        text = documents.document(rng, known)
        assert len({each.question for each in known}) == len({each.topic for each in known}) == 4
        for each in known:
            assert each.sentence in text
            assert each.value in each.sentence
            assert each.value not in each.question
            assert each.answer == each.sentence


def test_documents_share_the_facts_and_none_is_lost() -> None:
    rng = random.Random(3)
    known = documents.facts(rng, 5)
    shares = documents.split(rng, known, 3)
    assert sorted(each.sentence for share in shares for each in share) == sorted(each.sentence for each in known)
    assert all(shares)


def test_what_no_document_says_is_not_told() -> None:
    told = unknown = 0
    for seed in range(150):
        made = frames.plain_documents(sample_scene(seed), random.Random(seed))
        for branch in made.branches:
            if branch.answer == CANNOT_TELL:
                unknown += 1
            elif branch.answer in made.prefix:
                told += 1
    assert told > 200
    assert unknown > 60
