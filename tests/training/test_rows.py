from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from saliency_guard.embedded.architecture import IMAGE_SIZE, IMAGE_TOKENS, build_model, token_id
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training import forms
from saliency_guard.training.mentions import mentions
from saliency_guard.training.mixture import MIXTURE
from saliency_guard.training.rows import LONGEST, Encoder, Pictures, SheetBatches, order
from saliency_guard.training.shards import Shard, make_shard, training_scene
from saliency_guard.training.sheets import Branch, Sheet
from saliency_guard.training.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("pictures")
    for kind in ("scenes", "blanks"):
        make_shard(Shard(out, kind, 0), size=24)
    return out


def test_a_number_fixes_a_batch_and_a_run_goes_on_where_it_stopped(
    tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    whole, rest = SheetBatches(tokenizer, folder), SheetBatches(tokenizer, folder)
    assert whole.available == {"scenes": 24, "blanks": 24}
    for number in (14, 15):
        one, two = whole[number], rest[number]
        for name in ("pixels", "input_ids", "labels", "position_ids", "segments", "share", "mentioned", "known"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
    other = SheetBatches(tokenizer, folder, seed=1)[0]
    assert other.input_ids.shape != whole[0].input_ids.shape or not torch.equal(other.input_ids, whole[0].input_ids)


def test_a_batch_is_what_the_model_takes(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    batches = SheetBatches(tokenizer, folder)
    made = [batches[number] for number in range(12)]
    image = token_id(tokenizer, "<image>")
    for batch in made:
        assert int((batch.input_ids == image).sum()) == len(batch.pixels) * IMAGE_TOKENS
        assert batch.patches.shape == (len(batch.pixels), IMAGE_TOKENS)
        assert batch.pixels.shape[1:] == (IMAGE_SIZE, IMAGE_SIZE, 3)
        learnt = batch.labels != -100
        assert torch.equal(batch.labels[learnt], batch.input_ids[learnt])
        assert (batch.segments[learnt] > 0).all()
        assert batch.input_ids.shape[1] <= LONGEST
    assert sum(float(batch.share) for batch in made) == pytest.approx(12, rel=1e-4)
    sizes = torch.tensor([batch.input_ids.numel() for batch in made], dtype=torch.float)
    assert sizes.max() < 2.5 * sizes.min()
    assert {int(kind) for batch in made for kind in batch.kinds} > set(range(5))


def test_an_exchange_sees_its_beginning_and_itself(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The packed row gives every answer the logits that it has alone."""
    batch = SheetBatches(tokenizer, folder)[3]
    torch.manual_seed(0)
    model = build_model(tokenizer).eval()
    row = 0
    segments = batch.segments[row]
    packed_embeds = model.get_input_embeddings()(batch.input_ids[row : row + 1])
    with torch.no_grad():
        packed = model.model.language_model(
            inputs_embeds=packed_embeds,
            attention_mask=batch.mask(torch.float32)[row : row + 1],
            position_ids=batch.position_ids[row : row + 1],
            use_cache=False,
        )[0][0]
        for number in (1, int(segments.max())):
            keep = ((segments == 0) | (segments == number)).nonzero()[:, 0]
            alone = model.model.language_model(inputs_embeds=packed_embeds[:, keep], use_cache=False)[0][0]
            torch.testing.assert_close(alone, packed[keep], atol=1e-4, rtol=1e-3)


def test_what_is_forced_is_not_learnt_and_a_short_answer_is_its_first_word(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    encoder = Encoder(tokenizer)
    filled = [forms.flag(sample_scene(3), "dog", "has_dog"), forms.told(sample_scene(3), "caption")]
    ids, labels = encoder.answer(forms.forced(filled, "Look."))
    assert len(ids) == len(labels)
    learnt = tokenizer.decode([token_id for token_id in labels if token_id != -100])
    assert "has_dog" not in learnt
    assert "caption" not in learnt
    assert str(filled[0].value).lower() in learnt
    assert filled[1].value in learnt
    assert tokenizer.decode(encoder.answer(Branch("?", "Yes, there is.", short=True))[1]) == "Yes"


def test_names_of_things_are_labelled_where_their_last_token_is(
    tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    batches = SheetBatches(tokenizer, folder)
    made = [batches[number] for number in range(4)]
    counted = 0
    for batch in made:
        assert len(batch.mentioned) == len(batch.known) > 0
        for (row, column), known in zip(batch.mentioned.tolist(), batch.known.tolist(), strict=True):
            segment = int(batch.segments[row, column])
            assert segment > 0
            start = int((batch.segments[row] == segment).nonzero()[0, 0])
            ids = batch.input_ids[row].tolist()
            text = tokenizer.decode(ids[start : column + 1])
            ends = mentions(text + " ")
            assert ends, text
            # A later token ends no name, and the one before does not yet.
            assert len(mentions(tokenizer.decode(ids[start:column]) + " ")) <= len(ends)
            if known[0] > 0 and known[-1] != -100:
                counted += 1
    assert counted > 20


def test_a_row_that_is_too_long_loses_branches(tokenizer: PreTrainedTokenizerFast) -> None:
    branches = tuple(Branch(" word" * 400 + "\nASSISTANT:\n", "Yes.") for _ in range(20))
    row = Encoder(tokenizer).row(Sheet("<s>USER:", branches), [], 0)
    assert 0 < max(row.segments) < 20
    assert len(row.ids) <= LONGEST


def test_a_picture_is_what_its_seed_shows(folder: Path) -> None:
    pictures = Pictures(folder)
    rng = random.Random(0)
    picture = pictures.draw(rng, "scenes")
    assert pictures.scene(picture) == training_scene(pictures.kinds["scenes"][0].seeds[picture[1]])
    assert pictures.scene(("blanks", 3)) is None
    assert pictures.load(picture)[0].shape == (IMAGE_SIZE, IMAGE_SIZE, 3)


def test_a_folder_without_pictures_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="shards"):
        SheetBatches(tokenizer, tmp_path)
    assert len(MIXTURE) > 10


def test_workers_make_whole_pools_and_no_batch_is_lost() -> None:
    assert order(3, 30, 1) == list(range(3, 30))
    four = order(0, 96, 4)
    assert sorted(four) == list(range(96))
    assert {number // 12 for number in four[0:48:4]} == {0}
    assert {number // 12 for number in four[1:48:4]} == {1}
    assert order(50, 96, 4) == four[50:]
