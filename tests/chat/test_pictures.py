"""Rows and tiles of one picture are one source, and pictures that touch are several, as every family writes them."""

from __future__ import annotations

from typing import Any

import families
import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from word_processors import aya, idefics3, llava_next, mllama

from saliency_guard import LVLM, SGRSConfig, UnsupportedModelError, score_answer
from saliency_guard.chat import detokenize
from saliency_guard.chat.layout import prompt_layout
from saliency_guard.chat.messages import chat
from saliency_guard.chat.pictures import PictureMemo
from saliency_guard.chat.template import PromptReader
from saliency_guard.evaluation.labelling import Labels, look
from saliency_guard.models.vision_features import RECOGNITION

PICTURE = 90
BREAK, END, START, FAKE, GLOBAL, THUMB, LOW = 80, 81, 82, 83, 84, 85, 86


def owners(config: Any, ids: list[int], **inputs: Any) -> list[int | None]:
    """Which picture each position is of."""
    layout = prompt_layout(config, {"input_ids": torch.tensor([ids]), **inputs})
    owner: list[int | None] = [None] * len(ids)
    for span in layout.spans:
        owner[span.start : span.stop] = [int(span.source.removeprefix("image_"))] * (span.stop - span.start)
    assert [position for position, token in enumerate(ids) if token == PICTURE] == [
        position for position, picture in enumerate(owner) if picture is not None
    ]
    return [picture for picture in owner if picture is not None]


def rows(height: int, width: int) -> list[int]:
    """A picture as Pixtral's processor writes it."""
    return [*(([PICTURE] * width + [BREAK]) * height)[:-1], END]


@pytest.mark.parametrize("name", ["pixtral", "mistral3"])
def test_sizes_tell_rows_from_pictures(name: str) -> None:
    config = families.build(name).model.config
    side = 4 * getattr(config, "spatial_merge_size", 1)
    ids = [1, *rows(2, 3), *rows(1, 2), 5, *rows(3, 1), 7]
    sizes = torch.tensor([[2 * side, 3 * side], [side, 2 * side], [3 * side, side]])
    assert owners(config, ids, image_sizes=sizes) == [0] * 6 + [1] * 2 + [2] * 3
    assert owners(config, [1, *rows(2, 3), 7], image_sizes=sizes[:1]) == [0] * 6
    with pytest.raises(UnsupportedModelError, match="cannot be told apart"):
        owners(config, ids, image_sizes=sizes[:2])


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_the_last_tile_of_every_picture_has_one_mark(name: str) -> None:
    config = families.build(name).model.config
    tiles = [token for mark in (60, 61, 62, 63) for token in [FAKE, mark, PICTURE, PICTURE]]
    split = [*tiles, 5, FAKE, GLOBAL, PICTURE, PICTURE, FAKE]
    whole = [FAKE, GLOBAL, PICTURE, PICTURE, FAKE]
    assert owners(config, [1, *split, 7]) == [0] * 10
    assert owners(config, [1, *whole, *whole, 7]) == [0] * 2 + [1] * 2
    assert owners(config, [1, *whole, *split, 9, *whole, 7]) == [0] * 2 + [1] * 10 + [2] * 2
    assert owners(config, [1, *split, *split, 7]) == [0] * 10 + [1] * 10


def test_aya_marks_tiles_too() -> None:
    config = families.build("aya-vision").model.config
    split = [START, 60, 1, PICTURE, PICTURE, 60, 2, PICTURE, PICTURE, GLOBAL, PICTURE, PICTURE, END]
    whole = [START, GLOBAL, PICTURE, PICTURE, END]
    assert owners(config, [1, *split, *whole, *split, 7]) == [0] * 6 + [1] * 2 + [2] * 6


@pytest.mark.parametrize("build", [lambda: families.build("cohere2-vision").model.config, hf.Lfm2VlConfig])
def test_a_single_token_parts_tiles_and_several_part_pictures(build: Any) -> None:
    config = build()
    config.image_token_id = PICTURE
    split = [START, PICTURE, PICTURE, BREAK, PICTURE, PICTURE, BREAK, END]
    whole = [START, PICTURE, PICTURE, BREAK, END]
    assert owners(config, [1, *split, *whole, 5, *split, 7]) == [0] * 4 + [1] * 2 + [2] * 4


@pytest.mark.parametrize("name", ["llama4", "ovis2"])
def test_a_token_of_its_own_begins_a_picture(name: str) -> None:
    config = families.build(name).model.config
    begin = config.boi_token_id if name == "llama4" else config.visual_indicator_token_ids[0]
    split = [begin, PICTURE, PICTURE, 70, PICTURE, PICTURE, 71, 72, PICTURE, END]
    whole = [begin, PICTURE, PICTURE, END]
    assert owners(config, [1, *split, *whole, *split, 7]) == [0] * 5 + [1] * 2 + [2] * 5


def test_molmo_has_a_small_and_a_large_picture_of_each() -> None:
    config = families.build("molmo2").model.config
    first = [LOW, PICTURE, PICTURE, END, START, *[PICTURE, PICTURE, BREAK] * 2, END]
    second = [LOW, PICTURE, END, START, PICTURE, BREAK, END]
    grids = torch.tensor([[1, 2, 2, 2], [1, 1, 1, 1]])
    assert owners(config, [1, *first, *second, 7], image_grids=grids) == [0] * 6 + [1] * 2


def test_a_token_that_may_part_tiles_or_pictures_is_refused() -> None:
    config = families.build("idefics2").model.config
    with pytest.raises(UnsupportedModelError, match="tiles or pictures"):
        owners(config, [1, FAKE, PICTURE, PICTURE, FAKE, PICTURE, PICTURE, FAKE, 7])
    assert owners(config, [1, FAKE, PICTURE, FAKE, 5, FAKE, PICTURE, FAKE, 7]) == [0, 1]


def test_pictures_that_touch_and_are_not_told_apart_are_refused() -> None:
    config = families.build("llava-next").model.config
    sizes = torch.tensor([[8, 16], [8, 8]])
    with pytest.raises(UnsupportedModelError, match="layout="):
        owners(config, [1, *[PICTURE] * 20, 7], image_sizes=sizes)
    assert owners(config, [1, *[PICTURE] * 14, 5, *[PICTURE] * 6, 7], image_sizes=sizes) == [0] * 14 + [1] * 6


@pytest.mark.parametrize("build", [idefics3, aya, llava_next])
def test_the_processor_says_which_picture_a_position_is_of(build: Any) -> None:
    name, processor = build()
    model = families.build(name).model
    token = "<|IMG_PATCH|>" if name == "aya-vision" else "<image>"
    model.config.image_token_id = processor.tokenizer.convert_tokens_to_ids(token)
    reader = PromptReader(model, processor, name, require_image=True)
    sizes = [(32, 16), (16, 16), (16, 32)]
    pictures = [{"type": "image", "image": Image.new("RGB", size, "red")} for size in sizes]
    alone = [reader.prepare([{"role": "user", "content": [picture]}]).layout for picture in pictures]
    counts = [len(layout.image_positions) for layout in alone]
    assert [layout.sources for layout in alone] == [("image_0", "text", "output")] * 3
    together = reader.prepare([{"role": "user", "content": pictures}]).layout
    owned = {f"image_{number}": 0 for number in range(3)}
    for span in together.spans:
        owned[span.source] += span.stop - span.start
    # Different sizes take different room, unless the family brings all to one.
    assert list(owned.values()) == counts
    assert len(set(counts)) > 1
    assert processor._process_images.__func__  # Its own method is left in place.


def test_pictures_that_are_seen_across_have_their_shares_through_messages() -> None:
    lvlm = mllama()
    model, processor = lvlm.model, lvlm.processor
    pictures = [{"type": "image", "image": Image.new("RGB", size, "red")} for size in [(8, 8), (16, 8)]]
    text = {"type": "text", "text": " look 1 2 ", "source": "document_1"}
    messages = [{"role": "user", "content": [*pictures, text]}]
    prepared = PromptReader(model, processor, "mllama", require_image=True).prepare(messages)
    assert prepared.layout.sources == ("image_0", "image_1", "document_1", "text", "output")
    written = lvlm.generate(messages, max_new_tokens=4, sgrs=SGRSConfig(alpha=0.5))
    assert all(token.shares["image_1"] > 0 for token in written.tokens)
    again = lvlm.score(messages, "look 3 4 look")
    direct = score_answer(model, prepared.inputs, [token.token_id for token in again.tokens], layout=prepared.layout)
    for position, token in enumerate(again.tokens):
        assert set(token.shares) == set(prepared.layout.sources)
        for source, share in token.shares.items():
            assert share == pytest.approx(float(direct.shares[source][position]), rel=1e-4, abs=1e-7)
        assert token.shares["image_0"] > 0
        assert token.shares["image_1"] > 0
    looked = lvlm.score(messages, "look 3", signals=("svar", "logit_lens", "contrast"))
    assert all(token.signals["svar"] > 0 for token in looked.tokens)
    assert all(token.signals.keys() == {"svar", "contrast"} for token in looked.tokens)  # No position shows a picture.
    answer = detokenize.encode(lvlm.tokenizer, "look 3")
    record = look(lvlm, lvlm.prepare(messages), answer, [], Labels("two", "look 1 2", 0, (), grounded=True))
    assert record.pictures == 2
    assert np.isfinite(record.domain_features[:, : -RECOGNITION - 1]).all()
    assert not np.allclose(record.domain_features[0, :-RECOGNITION], record.domain_features[1, :-RECOGNITION])


def test_what_was_made_of_a_picture_serves_others_that_look_the_same(lvlm: LVLM) -> None:
    blue, same, red = (
        Image.new("RGB", (40, 30), "blue"),
        Image.new("RGB", (40, 30), "blue"),
        Image.new("RGB", (40, 30), "red"),
    )
    memo = PictureMemo()
    first = lvlm.reader.prepare(chat(blue, "What?"), memo=memo)
    again = lvlm.reader.prepare(chat(same, "And what else is there?"), memo=memo)
    other = lvlm.reader.prepare(chat(red, "What?"), memo=memo)
    assert torch.equal(first.inputs["pixel_values"], again.inputs["pixel_values"])
    for prepared, image, question in ((again, blue, "And what else is there?"), (other, red, "What?")):
        plain = lvlm.reader.prepare(chat(image, question))
        assert prepared.inputs.keys() == plain.inputs.keys()
        assert all(torch.equal(value, plain.inputs[name]) for name, value in prepared.inputs.items())
        assert prepared.layout == plain.layout
    calls: list[int] = []
    for shown in ([blue], [same], [red], [red, red], [red, red]):
        memo.show(shown)
        memo.made(lambda: (calls.append(1), []))
    assert len(calls) == 3  # The memo held red.
