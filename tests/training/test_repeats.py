from __future__ import annotations

import random

from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training import repeats


def test_what_is_to_be_repeated_stands_in_the_prompt() -> None:
    for seed in range(40):
        made = repeats.repeating(random.Random(seed))
        assert all(branch.answer in branch.prompt for branch in made.branches)
    words = [branch.answer.split() for seed in range(40) for branch in repeats.repeating(random.Random(seed)).branches]
    assert len({word for said in words for word in said}) > 400


def test_a_question_behind_a_long_text_is_about_the_picture() -> None:
    longest = max(len(repeats.long_preamble(sample_scene(seed), random.Random(seed)).prefix) for seed in range(30))
    assert longest > 1500
