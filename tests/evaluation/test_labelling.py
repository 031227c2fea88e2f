"""Answers with their labels: what is asked of scenes, how answers are looked at, and what is known of the whole."""

from __future__ import annotations

import numpy as np

from saliency_guard import LVLM
from saliency_guard.evaluation.labelling import Looking, all_true, write_records
from saliency_guard.evaluation.questions import several_questions, world_questions
from saliency_guard.evaluation.world import pictures


def test_answers_about_a_scene_are_labelled_claim_by_claim(lvlm: LVLM) -> None:
    (picture,) = pictures("development", 1)
    questions = world_questions(picture)
    records = list(write_records(lvlm, questions, draws=2))
    assert [record.draw for record in records] == [0, 0, 0, 0, 1, 1, 1, 1]
    for record in records:
        assert record.picture == str(picture.scene.seed)
        assert record.pictures == len(record.domain) == 1
        assert record.grounded == all_true([claim.grounded for claim in record.claims])
        assert record.features(("signals", "verification", "evidence", "saliency", "attention")).shape[0] == len(
            record.claims
        )
        for claim in record.claims:
            assert claim.verified is None or 0.0 <= claim.verified <= 1.0
    assert any(claim.verified is not None for record in records for claim in record.claims)
    assert list(write_records(lvlm, questions, draws=2)) == records


def test_what_is_there_already_is_not_looked_at_again(lvlm: LVLM) -> None:
    (picture,) = pictures("development", 1)
    questions = world_questions(picture)
    records = list(write_records(lvlm, questions, given=True, looking=Looking(vectors=False)))
    done = {(record.picture, record.question, record.draw) for record in records[:5]}
    calls: list[None] = []
    again = list(
        write_records(
            lvlm, questions, given=True, looking=Looking(vectors=False), done=done, on_answer=lambda: calls.append(None)
        )
    )
    assert again == records[5:]
    assert len(calls) == len(records)


def test_answers_from_elsewhere_are_true_half_of_the_time(lvlm: LVLM) -> None:
    questions = [question for picture in pictures("development", 8) for question in world_questions(picture)]
    looking = Looking(verify=None, vectors=False)
    records = list(write_records(lvlm, questions, draws=0, given=True, looking=looking))
    assert {record.draw for record in records} == {-1}
    assert [record.answer.text for record in records] == [question.given for question in questions]
    assert 0.3 < sum(record.grounded is True for record in records) / len(records) < 0.7
    assert all(record.claims for record in records)
    assert {claim.verified for record in records for claim in record.claims} == {None}


def test_prompts_with_several_pictures(lvlm: LVLM) -> None:
    questions = several_questions(list(pictures("development", 3)))
    assert all(len(question.images) == 3 for question in questions)
    records = list(write_records(lvlm, questions, given=True, looking=Looking(vectors=False)))
    assert {record.pictures for record in records} == {3}
    assert all(record.domain_features.shape[0] == 3 for record in records)
    given = [record for record in records if record.draw == -1]
    assert all(claim.grounded is not None for record in given for claim in record.claims)
    features = given[0].features(("verification",))
    assert np.allclose(features[:, 2], np.log(3))


def test_what_is_known_of_the_whole() -> None:
    assert all_true([True, True]) is True
    assert all_true([True, None]) is None
    assert all_true([None, False]) is False
    assert all_true([]) is False
