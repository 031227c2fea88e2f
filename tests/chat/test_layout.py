from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard import InputError, UnsupportedModelError
from saliency_guard.chat.layout import PromptLayout, Span, prompt_layout, text_spans


def test_two_images_are_found(case: tiny.Case) -> None:
    layout = prompt_layout(case.model.config, case.inputs)
    ids = case.inputs["input_ids"][0]
    assert layout.sources == ("image_0", "image_1", "text", "output")
    for span in layout.spans:
        assert (ids[span.start : span.stop] == tiny.IMAGE).all()
    assert sum(span.stop - span.start for span in layout.spans) == int((ids == tiny.IMAGE).sum())
    assert layout.after_image == int((ids == tiny.IMAGE).nonzero().max()) + 1


def test_images_that_touch_are_told_apart() -> None:
    case = tiny.build("llava-mha")
    ids = torch.tensor([[1, 5, *[tiny.IMAGE] * 8, 9]])
    layout = prompt_layout(case.model.config, dict(case.inputs, input_ids=ids))
    assert [(s.source, s.start, s.stop) for s in layout.spans] == [("image_0", 2, 6), ("image_1", 6, 10)]


def test_images_that_touch_are_told_apart_by_their_grid() -> None:
    case = tiny.build("qwen2-vl")
    ids = torch.tensor([[1, *[tiny.IMAGE] * 6, 9]])
    layout = prompt_layout(case.model.config, dict(case.inputs, input_ids=ids))
    assert [(s.start, s.stop) for s in layout.spans] == [(1, 5), (5, 7)]


def test_frames_of_one_video_are_one_source() -> None:
    """Their timestamps stand between them."""
    case = tiny.build("qwen2-vl")
    ids = torch.tensor([[1, 91, 91, 5, 91, 91, 7, 91, 91, 9]])
    inputs = {"input_ids": ids, "video_grid_thw": torch.tensor([[2, 2, 4], [1, 2, 4]])}
    layout = prompt_layout(case.model.config, inputs)
    assert [(s.source, s.start, s.stop) for s in layout.spans] == [
        ("video_0", 1, 3),
        ("video_0", 4, 6),
        ("video_1", 7, 9),
    ]


def test_pictures_that_a_mask_marks_are_found() -> None:
    case = tiny.build("llava-mha")
    inputs = {
        "input_ids": torch.arange(8)[None],
        "image_embeds_position_mask": torch.tensor([[0, 1, 1, 0, 0, 1, 0, 0]]),
    }
    layout = prompt_layout(case.model.config, inputs)
    assert [(s.source, s.start, s.stop) for s in layout.spans] == [("image_0", 1, 3), ("image_1", 5, 6)]


@given(st.integers(2, 30), st.integers(0, 10), st.data())
def test_every_position_has_one_source(length: int, output: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, length - 2))
    stop = data.draw(st.integers(start + 1, length))
    layout = PromptLayout(length, (Span("image_0", start, stop),))
    masks = layout.masks(length + output)
    assert (masks.sum(0) == 1).all()
    assert int(masks[layout.sources.index("output")].sum()) == output
    assert int(masks[0].sum()) == stop - start


def test_named_spans_are_checked() -> None:
    layout = PromptLayout(10, (Span("image_0", 2, 5),))
    assert layout.named({"document_1": [(6, 8)]}).sources == ("image_0", "document_1", "text", "output")
    with pytest.raises(InputError, match="overlap"):
        layout.named({"document_1": [(4, 8)]})
    with pytest.raises(InputError, match="outside"):
        layout.named({"document_1": [(8, 11)]})


def test_rows_of_one_picture_are_one_image_and_unclear_ones_an_error() -> None:
    spans = (Span("image_0", 1, 3), Span("image_1", 4, 6), Span("image_2", 8, 9))
    layout = PromptLayout(12, spans)
    assert layout.for_images(3) is layout
    assert layout.for_images(1).sources == ("image_0", "text", "output")
    assert int(layout.for_images(1).masks(12)[0].sum()) == 5
    with pytest.raises(UnsupportedModelError, match="told apart"):
        layout.for_images(2)
    with pytest.raises(UnsupportedModelError, match="none is found"):
        PromptLayout(12).for_images(1)


def test_texts_take_the_tokens_that_they_overlap() -> None:
    layout = PromptLayout(7, (Span("image_0", 3, 4),))
    offsets = [(0, 0), (0, 2), (2, 4), (4, 5), (5, 7), (7, 9), (9, 10)]
    texts = {"a": [(1, 6)], "b": [(6, 8), (9, 10)]}
    # An image parts a text, and a token on a border belongs to the first of two.
    assert text_spans(layout, offsets, texts) == {"a": [(1, 3), (4, 5)], "b": [(5, 6), (6, 7)]}
    assert text_spans(layout, offsets, {"a": [(1, 6)], "b": [(6, 7)]}) == {"a": [(1, 3), (4, 5)]}
    assert text_spans(layout, offsets, {}) == {}
