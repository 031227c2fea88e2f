"""Training batches: what the model reads at inference, and exchanges that do not see each other."""

from __future__ import annotations

import torch
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat
from saliency_guard.embedded.architecture import IMAGE_SIZE
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.training.data import TRAINING_SEEDS, SceneBatches
from saliency_guard.training.pictures import picture_tensor
from saliency_guard.training.tokenizer import train_tokenizer


def test_the_model_reads_what_it_was_trained_on(lvlm: LVLM) -> None:
    """The processor and the chat template make of a picture what the training batches hold."""
    batch = SceneBatches(lvlm.processor.tokenizer, 2, 0, 1, 0)[0]
    ids = batch.input_ids[0]
    first = int((batch.segments[0] == 1).nonzero()[0])
    answer = int((batch.labels[0] != -100).nonzero()[0])
    question = lvlm.processor.tokenizer.decode(ids[first:answer]).removesuffix("\nASSISTANT:\n")
    image = render(sample_scene(7), IMAGE_SIZE).image
    inputs = lvlm.inputs(chat(image, question))
    assert inputs["input_ids"][0].tolist() == ids[:answer].tolist()
    assert batch.pixels.shape == (2, *inputs["pixel_values"].shape[1:])
    torch.testing.assert_close(inputs["pixel_values"][0], picture_tensor(image), atol=1e-5, rtol=0)
    larger = Image.effect_noise((224, 224), 60).convert("RGB")
    shrunk = lvlm.processor.image_processor(larger, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(shrunk, picture_tensor(larger), atol=1e-5, rtol=0)


def test_what_is_asked_about_a_scene_does_not_depend_on_how_it_was_drawn() -> None:
    """The choices of training have random numbers of their own, not those that drew the scene."""
    tokenizer = train_tokenizer(200)
    batches = SceneBatches(tokenizer, 60, 0, 4, 0)
    scenes = [sample_scene(TRAINING_SEEDS + number) for number in range(240)]
    counts = torch.tensor([float(len(scene.objects)) for scene in scenes])
    lengths = torch.cat([(batches[number].segments == 1).sum(1) for number in range(4)]).float()
    # The length of the first exchange tells its kind.
    assert abs(float(torch.corrcoef(torch.stack([counts, lengths]))[0, 1])) < 0.2


def test_an_exchange_sees_the_prefix_and_itself(lvlm: LVLM) -> None:
    batch = SceneBatches(lvlm.processor.tokenizer, 2, 0, 1, 0)[0]
    allowed = batch.mask(torch.float32)[:, 0] == 0
    for row in range(2):
        segments = batch.segments[row]
        for query in range(0, len(segments), 17):
            seen = segments[allowed[row, query]]
            if segments[query] >= 0:
                assert set(seen.tolist()) <= {0, int(segments[query])}
            assert not bool(allowed[row, query, query + 1 :].any())
        prefix = int((segments == 0).sum())
        starts = [int((segments == number).nonzero()[0]) for number in range(1, int(segments.max()) + 1)]
        assert batch.position_ids[row, starts].tolist() == [prefix] * len(starts)


def test_before_the_text_only_pictures_are_learnt(lvlm: LVLM) -> None:
    batches = SceneBatches(lvlm.processor.tokenizer, 2, 0, 3, vision_steps=2)
    assert [batches[number].input_ids.shape[1] > 0 for number in range(3)] == [False, False, True]
    assert len(batches) == 3
    assert torch.equal(batches[1].pixels, SceneBatches(lvlm.processor.tokenizer, 2, 1, 3, 2)[0].pixels)
