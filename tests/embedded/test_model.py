"""The shipped model: its size, its files, and that it sees."""

from __future__ import annotations

import json
import re

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.embedded import evaluate
from saliency_guard.lvlm import EMBEDDED_PATH
from saliency_guard.scenes import language
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.scenes.sprites import STYLES


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


def test_it_answers_yes_no_questions_about_unseen_scenes(lvlm: LVLM) -> None:
    """The full measurement is `python -m saliency_guard.embedded.evaluate`; this is a part of it."""
    assert evaluate.yes_no(lvlm, 200, "random", STYLES) >= 0.85


def test_it_describes_unseen_scenes(lvlm: LVLM) -> None:
    found = evaluate.captions(lvlm, 30, STYLES)
    assert found["recall"] >= 0.3
    assert found["chair_i"] <= 0.25
    assert 5 < found["words"] < 60


@pytest.mark.parametrize("seed", range(500_010, 500_016))
def test_it_writes_sentences(lvlm: LVLM, seed: int) -> None:
    scene = sample_scene(seed)
    for question in (language.DESCRIBE, "How many dogs are there in the image?", "Where is the dog?"):
        text = evaluate._ask(lvlm, scene, question, max_new_tokens=80).text
        assert re.fullmatch(r"([A-Z][\w ,:'-]+\. ?)+", text), text


def test_what_it_reads_is_what_it_was_trained_on(lvlm: LVLM) -> None:
    """The processor and the chat template make of a scene what the training batches hold."""
    from saliency_guard.embedded.data import TRAINING_SEEDS, SceneBatches, picture_tensor

    batch = SceneBatches(lvlm.processor.tokenizer, 2, 0, 1, 0)[0]
    ids = batch.input_ids[0]
    first = int((batch.segments[0] == 1).nonzero()[0])
    answer = int((batch.labels[0] != -100).nonzero()[0])
    question = lvlm.processor.tokenizer.decode(ids[first:answer]).removesuffix("\nASSISTANT:\n")
    image = render(sample_scene(TRAINING_SEEDS), 112).image
    inputs = lvlm.inputs(
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]
    )
    assert inputs["input_ids"][0].tolist() == ids[:answer].tolist()
    torch.testing.assert_close(inputs["pixel_values"][0], picture_tensor(image), atol=1e-5, rtol=0)
    larger = Image.effect_noise((224, 224), 60).convert("RGB")
    shrunk = lvlm.processor.image_processor(larger, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(shrunk, picture_tensor(larger), atol=1e-5, rtol=0)
