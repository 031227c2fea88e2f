"""The cache of answers: nothing that changes an answer is mixed up."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import torch
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from PIL import Image

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import (
    GuardPolicy,
    LocoREConfig,
    SaliencyConfig,
    SGRSConfig,
)


def look(where: str) -> str:
    """Look somewhere.

    Args:
        where: left or right.
    """
    return where


def test_a_cache_keeps_settings_apart(ask: Any) -> None:
    set_llm_cache(InMemoryCache())
    try:
        low, high = (
            SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=threshold, on_low="flag")) for threshold in (0.0, 1.0)
        )
        assert low.invoke([ask()]).response_metadata["grounding"]["decision"] == "accepted"
        assert high.invoke([ask()]).response_metadata["grounding"]["decision"] == "flagged"
        assert SaliencyGuardedLVLM(sgrs=SGRSConfig()).invoke([ask()]).content != low.invoke([ask()]).content
        again = low.invoke([ask()])
        assert again.usage_metadata is not None
        assert again.usage_metadata.get("total_cost", 0) == 0
        assert again.response_metadata["grounding"]["decision"] == "accepted"
    finally:
        set_llm_cache(None)


def test_settings_that_change_answers_are_in_the_cache_s_key() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"seed": 1},
        {"max_tokens": 5},
        {"stop": ["x"]},
        {"sgrs": SGRSConfig()},
        {"sgrs": SGRSConfig(alpha=0.9)},
        {"locore": LocoREConfig()},
        {"saliency": SaliencyConfig(layers=(0.0, 1.0))},
        {"signals": ("nll",)},
        {"policy": GuardPolicy(min_grounding=0.5)},
        {"policy": GuardPolicy(min_grounding=0.6)},
        {"dtype": "float64"},
        {"revision": "main"},
        {"model": "another"},
    ]
    models = [SaliencyGuardedLVLM(**setting) for setting in settings]
    keys = [json.dumps(model._identifying_params, sort_keys=True, default=str) for model in models]
    assert len(set(keys)) == len(settings)


def test_logits_processors_are_not_mixed_up_by_the_cache(model: SaliencyGuardedLVLM, ask: Any) -> None:
    class Held:
        """Writes one token only; all of its kind look alike."""

        def __init__(self, token: int) -> None:
            self.token = token

        def __repr__(self) -> str:
            return "Held()"

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            held = torch.full_like(scores, -torch.inf)
            held[:, self.token] = 0.0
            return held

    set_llm_cache(InMemoryCache())
    try:
        texts = {
            str(model.invoke([ask()], logits_processor=Held(token), max_new_tokens=2).content) for token in (402, 403)
        }
    finally:
        set_llm_cache(None)
    assert len(texts) == 2


def test_fallbacks_of_any_kind_are_told_apart_by_the_cache(ask: Any) -> None:
    def careful(fallback: Any) -> SaliencyGuardedLVLM:
        return SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0, on_low="fallback", fallback=fallback))

    set_llm_cache(InMemoryCache())
    try:
        made = [careful(lambda *_, text=text: text) for text in "AB"]
        made += [careful(partial(lambda text, *_: text, text)) for text in "CD"]
        assert [model.invoke([ask()]).content for model in made] == ["A", "B", "C", "D"]
    finally:
        set_llm_cache(None)


def test_the_cache_tells_pictures_apart(model: SaliencyGuardedLVLM, picture: Any, tmp_path: Any) -> None:
    question = {"type": "text", "text": "Describe the image in detail."}
    path = tmp_path / "p.png"
    set_llm_cache(InMemoryCache())
    try:
        answers = []
        for image in (picture, Image.new("RGB", (224, 224), "teal")):
            image.save(path)
            answers.append(model.invoke([HumanMessage([{"type": "image", "path": str(path)}, question])]).content)
            answers.append(model.invoke([HumanMessage([{"type": "image", "image": image.copy()}, question])]).content)
        assert answers[0] == answers[1] != answers[2] == answers[3]
    finally:
        set_llm_cache(None)
