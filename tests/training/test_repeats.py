from __future__ import annotations

import random

from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training import repeats
from saliency_guard.training.sheets import IMAGE


def test_what_is_to_be_repeated_stands_in_the_prompt() -> None:
    for seed in range(40):
        made = repeats.repeating(random.Random(seed))
        assert made.branches
        assert all(branch.answer in branch.prompt for branch in made.branches)
    words = [branch.answer.split() for seed in range(40) for branch in repeats.repeating(random.Random(seed)).branches]
    assert len({word for said in words for word in said}) > 400


def test_a_question_behind_a_long_text_is_about_the_picture() -> None:
    sheets = [repeats.long_preamble(sample_scene(seed), random.Random(seed)) for seed in range(30)]
    assert max(len(made.prefix) for made in sheets) > 1500
    for made in sheets:
        assert made.pictures == made.prefix.count(IMAGE) == 1
        assert 0 < len(made.branches) <= 6
