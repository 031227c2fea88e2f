from __future__ import annotations

import json
import random
import re

from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training import agents


def test_a_follow_up_is_said_so_that_it_stands_alone() -> None:
    for seed in range(80):
        branches = agents.condensing(random.Random(seed)).branches
        assert branches
        for branch in branches:
            assert branch.answer.endswith(("?", "."))
            assert not branch.answer.startswith(("And ", "What about "))


def test_an_agent_thinks_acts_and_answers() -> None:
    actions = 0
    for seed in range(60):
        made = agents.reacting(sample_scene(seed), random.Random(seed))
        for branch in made.branches:
            acting = re.fullmatch(r"Thought: .*\nAction: (.*)\nAction Input: (\{.*\})", branch.answer)
            if acting:
                actions += 1
                assert f"{acting[1]}" in made.prefix
                assert isinstance(json.loads(acting[2]), dict)
            else:
                assert re.fullmatch(r"Thought: .*\nAnswer: .+", branch.answer)
    assert actions > 60
