"""Statements put to the model: true and false alike often, in forms of which some are for evaluation alone."""

from __future__ import annotations

import random

from saliency_guard.scenes.scene import Scene, sample_scene
from saliency_guard.training import statements
from saliency_guard.training.sheets import ASSISTANT

SCENE = next(scene for seed in range(50) if len((scene := sample_scene(seed)).counts) > 3)


def test_true_and_false_statements_are_alike_often() -> None:
    rng = random.Random(0)
    made = [statements.make(SCENE, rng) for _ in range(300)]
    truths = [each.truth for each in made if each is not None]
    assert len(truths) > 280
    assert 0.4 < sum(truths) / len(truths) < 0.6


def test_a_statement_is_put_in_every_form() -> None:
    made = statements.make(SCENE, random.Random(1))
    assert made is not None
    put = [statements.put(made, form) for form in (*statements.ASKED, *statements.UNSEEN_ASKED)]
    assert all("{" not in text for text in put)
    assert all(made.text in text or made.question in text or made.text[1:-1] in text for text in put)
    assert not set(statements.ASKED) & set(statements.UNSEEN_ASKED)


def test_a_branch_asks_and_answers() -> None:
    rng = random.Random(2)
    branches = [branch for _ in range(100) if (branch := statements.branch(SCENE, rng)) is not None]
    assert all(branch.prompt.endswith(ASSISTANT) and branch.answer.startswith(("Yes", "No")) for branch in branches)
    terse = [branch for branch in branches if any(form in branch.prompt for form in statements.TERSE)]
    assert terse
    assert {branch.answer for branch in terse} <= {"Yes.", "No."}


def test_of_an_empty_scene_only_what_it_allows_is_said() -> None:
    empty = Scene(0, "noto", "farm", ())
    rng = random.Random(3)
    made = [statements.make(empty, rng) for _ in range(60)]
    assert not any(each.truth for each in made if each is not None)
