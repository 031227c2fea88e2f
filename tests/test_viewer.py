"""What is shown beside an answer: pictures, maps, alternatives; and what cannot be explained."""

from __future__ import annotations

import io
from typing import Any

import families
import numpy as np
import pytest
import torch
from PIL import Image
from word_processors import aya, idefics3, llava_next, mllama

from saliency_guard import LVLM, InputError
from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat.messages import chat, chat_about
from saliency_guard.signals.picture_maps import PictureMaps
from saliency_guard.viewer import MAX_EDGE, MAX_MAP_BYTES, _chosen, small_jpeg

QUESTION = "What is in the image?"


@pytest.fixture(scope="module")
def explained(lvlm: LVLM) -> GroundedAnswer:
    messages = chat("examples/desk.png", QUESTION)
    return lvlm.explain(messages, lvlm.generate(messages, max_new_tokens=12))


def test_a_judged_answer_comes_with_its_picture_one_map_and_alternatives(lvlm: LVLM) -> None:
    answer = lvlm.generate(chat("examples/desk.png", QUESTION), max_new_tokens=12)
    assert answer.view is not None
    (picture,) = answer.view.pictures
    assert Image.open(io.BytesIO(picture.jpeg)).size == (picture.width, picture.height)
    assert len(picture.patches) == picture.positions == 64
    assert [(heat.source, heat.layer) for heat in answer.view.maps] == [("combined", None), ("saliency", None)]
    assert len(answer.view.maps[0].values) == len(answer.tokens) * 64
    for token, alternatives in zip(answer.tokens, answer.view.alternatives, strict=True):
        assert len(alternatives) == 5
        assert alternatives[0].token_id == token.token_id  # Greedy.
        assert alternatives[0].logprob == pytest.approx(token.logprob, abs=1e-4)
        logprobs = [alternative.logprob for alternative in alternatives]
        assert logprobs == sorted(logprobs, reverse=True)
    assert "view" not in answer.to_dict()
    assert "jpeg" not in repr(answer)


def test_explained_answers_have_every_measure_and_single_layers(lvlm: LVLM, explained: GroundedAnswer) -> None:
    assert explained.view is not None
    maps = {(heat.source, heat.layer): heat for heat in explained.view.maps}
    assert list(maps)[:4] == [("combined", None), ("saliency", None), ("attention", None), ("lens", None)]
    depth = lvlm.model.config.get_text_config().num_hidden_layers
    assert {layer for source, layer in maps if source == "attention"} == {None, *range(depth)}
    assert explained.view.note == ""
    # The first maps are those that came with the answer.
    again = lvlm.generate(chat("examples/desk.png", QUESTION), max_new_tokens=12)
    assert again.view is not None
    for at in (0, 1):
        first, second = (np.frombuffer(view.maps[at].values, np.uint8) for view in (again.view, explained.view))
        assert np.abs(first.astype(int) - second.astype(int)).max() <= 1
    assert explained.model_copy(update={"view": None}).to_dict() == again.model_copy(update={"view": None}).to_dict()


def test_maps_cover_all_pictures_in_order(lvlm: LVLM) -> None:
    pictures = ["examples/pictures/bird.png", "examples/pictures/glass.png"]
    messages = chat_about(pictures, "Which picture shows a bird?")
    answer = lvlm.explain(messages, lvlm.generate(messages, max_new_tokens=12))
    assert answer.view is not None
    assert [picture.source for picture in answer.view.pictures] == ["image_0", "image_1"]
    assert all(len(heat.values) == 2 * 64 * len(answer.tokens) for heat in answer.view.maps)


def test_an_answer_without_a_trace_has_no_view_and_can_be_explained(lvlm: LVLM) -> None:
    messages = chat("examples/desk.png", QUESTION)
    bare = lvlm.with_calibrator(None)
    answer = bare.score(messages, " A cup.")
    assert answer.view is None
    view = bare.explain(messages, answer).view
    assert view is not None
    assert view.question == QUESTION
    assert len(view.maps) > 3


def test_what_cannot_be_explained_says_why(lvlm: LVLM) -> None:
    messages = chat("examples/desk.png", QUESTION)
    answer = lvlm.generate(messages, max_new_tokens=3)
    with pytest.raises(InputError, match="not of"):
        lvlm.explain(messages, answer.model_copy(update={"model_id": "another"}))
    with pytest.raises(InputError, match="takes an answer"):
        lvlm.explain(messages, "A cup.")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="empty"):
        lvlm.explain(messages, answer.model_copy(update={"tokens": ()}))


@pytest.mark.parametrize("build", [idefics3, aya, llava_next])
def test_tiled_pictures_are_mapped_tile_by_tile(build: Any) -> None:
    name, processor = build()
    model = families.build(name).model
    if hasattr(model.config, "image_grid_pinpoints"):
        model.config.image_grid_pinpoints = processor.image_processor.image_grid_pinpoints
    token = "<|IMG_PATCH|>" if name == "aya-vision" else "<image>"
    model.config.image_token_id = processor.tokenizer.convert_tokens_to_ids(token)
    model.config.image_token_index = model.config.image_token_id
    lvlm = LVLM(model, processor)
    messages = chat_about([Image.new("RGB", size, "red") for size in ((32, 16), (16, 16))], "look 1 2")
    view = lvlm.explain(messages, lvlm.score(messages, "look 3")).view
    assert view is not None
    assert view.note == ""
    total = sum(picture.positions for picture in view.pictures)
    assert all(len(picture.patches) == picture.positions > 0 for picture in view.pictures)
    assert view.pictures[0].positions != view.pictures[1].positions
    assert {len(heat.values) for heat in view.maps} == {total * len(view.alternatives)}


def test_pictures_that_are_seen_across_are_shown_without_maps() -> None:
    lvlm = mllama()
    messages = chat_about([Image.new("RGB", (8, 8), "red"), Image.new("RGB", (16, 8), "red")], "look 1 2")
    answer = lvlm.explain(messages, lvlm.score(messages, "look 3"))
    assert answer.view is not None
    assert answer.view.maps == ()
    assert answer.view.note.startswith("The model looks at pictures across")
    assert answer.view.note in answer.to_html()


def test_large_pictures_are_shown_small() -> None:
    shown = Image.open(io.BytesIO(small_jpeg(Image.new("RGB", (4000, 1000), "red"))))
    assert shown.size == (MAX_EDGE, MAX_EDGE // 4)
    assert Image.open(io.BytesIO(small_jpeg(Image.new("RGB", (2000, 1))))).size == (MAX_EDGE, 1)


def test_maps_of_many_layers_stay_small() -> None:
    tokens, layers, positions = 100, 32, 576
    values = torch.rand(tokens, layers, positions)
    maps = PictureMaps(
        tuple(range(layers)),
        values,
        values,
        values[:, 0],
        tuple(range(layers)),
        values,
        values[:, 1],
        ("image_0",) * positions,
    )
    chosen = list(_chosen(maps))
    assert {source for source, _, _ in chosen} == {"combined", "saliency", "attention", "lens"}
    assert len(chosen) > 3
    assert sum(shown.numel() for *_, shown in chosen) <= MAX_MAP_BYTES


def test_a_model_without_a_lens_shows_the_other_two() -> None:
    unknown = torch.full((3, 2, 4), torch.nan)
    known = torch.rand(3, 2, 4)
    maps = PictureMaps((0, 1), known, known, known[:, 0], (0, 1), unknown, known[:, 1], ("image_0",) * 4)
    assert {source for source, _, _ in _chosen(maps)} == {"combined", "saliency", "attention"}
