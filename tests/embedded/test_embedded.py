"""The shipped model: its size, its files, and that it sees."""

from __future__ import annotations

import json
import re

import pytest
import torch

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.evaluation.world import WorldPicture, pictures
from saliency_guard.evaluation.world_pope import world_pope
from saliency_guard.scenes import language
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.scenes.vocabulary import CLASSES, counted
from saliency_guard.training import evaluate


@pytest.fixture(scope="module")
def unseen() -> list[WorldPicture]:
    return list(pictures("development", 60))


def test_it_is_small_and_has_no_code_of_its_own() -> None:
    files = {path.name: path.stat().st_size for path in EMBEDDED_PATH.iterdir()}
    assert sum(files.values()) <= 24 * 2**20
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith((".py", ".bin", ".pt", ".pkl"))]
    assert "auto_map" not in json.loads((EMBEDDED_PATH / "config.json").read_text())
    assert "README.md" in files


def test_it_loads_in_float32(lvlm: LVLM) -> None:
    assert lvlm.model.dtype == torch.float32
    assert type(lvlm.model).__name__ == "LlavaForConditionalGeneration"


def test_it_answers_yes_no_questions_about_unseen_scenes(lvlm: LVLM, unseen: list[WorldPicture]) -> None:
    """The full measurement is `python -m saliency_guard.training.evaluate`; this is a part of it."""
    wanted = {"random": 0.95, "popular": 0.93, "adversarial": 0.90}
    for kind, measured in world_pope(lvlm, unseen[:40]).items():
        assert measured["accuracy"] >= wanted[kind], kind
        assert 0.4 < measured["yes"] < 0.6, kind


def test_it_describes_unseen_scenes(lvlm: LVLM, unseen: list[WorldPicture]) -> None:
    measured = evaluate.captions(lvlm, unseen)
    assert measured["recall"] >= 0.9
    assert measured["chair_i"] <= 0.08
    assert 5 < measured["words"] < 60


@pytest.mark.parametrize("seed", range(500_010, 500_013))
def test_it_writes_sentences(lvlm: LVLM, seed: int) -> None:
    image = render(sample_scene(seed), 224).image
    for question in (language.DESCRIBE, "How many dogs are there in the image?", "Where is the dog?"):
        text = lvlm.generate(chat(image, question), max_new_tokens=80).text
        assert re.fullmatch(r"([A-Z][\w ,:'-]+\. ?)+", text), text


def test_its_nouns_numbers_and_articles_agree(lvlm: LVLM, unseen: list[WorldPicture]) -> None:
    """What the first sentence lists is always a phrase the language has: "a dog", "two pairs of skis"."""
    right = {counted(name, count) for name in CLASSES for count in range(1, 9)}
    lists = articles = 0
    for picture in unseen[:25]:
        text = lvlm.generate(chat(picture.image, language.DESCRIBE), saliency=None).text
        first = text.split(".")[0]
        opening = re.match(r"(The image shows|In the image, there (is|are)|This is a picture of) ", first)
        assert opening, text
        phrases = re.split(r", | and ", first[opening.end() :])
        assert set(phrases) <= right, text
        if opening[2]:
            assert (opening[2] == "is") == phrases[0].startswith(("a ", "an ")), text
            articles += 1
        lists += len(phrases) > 1
    assert lists > 10
    assert articles > 0


def test_it_says_what_it_cannot_answer_and_when_there_is_nothing(lvlm: LVLM) -> None:
    empty = [scene for scene in map(sample_scene, range(500_000, 500_300)) if not scene.objects]
    assert len(empty) > 3
    said = [lvlm.generate(chat(render(scene, 224).image, language.DESCRIBE), saliency=None).text for scene in empty]
    assert sum(text == language.EMPTY for text in said) >= 0.8 * len(said), said
    image = render(sample_scene(2523), 224).image
    for question in ("What is the capital of France?", "Who took this photo?"):
        assert lvlm.generate(chat(image, question)).text == language.CANNOT_TELL


def test_it_counts_what_it_sees(lvlm: LVLM, unseen: list[WorldPicture]) -> None:
    assert evaluate.counts(lvlm, unseen) >= 0.8


def test_it_knows_where_things_are(lvlm: LVLM, unseen: list[WorldPicture]) -> None:
    """Of nine places chance finds a ninth."""
    assert evaluate.places(lvlm, unseen) >= 0.7
