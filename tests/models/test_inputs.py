"""What goes into a model: checked, shortened, extended."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from saliency_guard import InputError, ModelError
from saliency_guard.models.inputs import (
    answer_tensor,
    check_no_image_token,
    check_vocabulary,
    extended,
    position_axis,
    shortened,
    unpadded,
)

IDS = torch.tensor([[1, 5, 90, 90, 7]])


def padded(*mask: int, **more: Any) -> dict[str, Any]:
    count = len(mask)
    return {"input_ids": torch.arange(count)[None], "attention_mask": torch.tensor([mask]), **more}


def test_left_padding_is_taken_off_from_everything_that_has_positions() -> None:
    inputs = padded(0, 0, 1, 1, 1, token_type_ids=torch.tensor([[9, 9, 0, 1, 0]]), pixel_values=torch.zeros(1, 5))
    kept = unpadded(inputs)
    assert kept["input_ids"].tolist() == [[2, 3, 4]]
    assert kept["token_type_ids"].tolist() == [[0, 1, 0]]
    assert kept["pixel_values"].shape == (1, 5)  # As many numbers as positions, and none of them one's.
    assert "attention_mask" not in kept


def test_a_mask_that_masks_nothing_labels_and_missing_values_are_left_out() -> None:
    assert set(unpadded(padded(1, 1, labels=torch.zeros(1, 2), pixel_values=None))) == {"input_ids"}


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({}, "input_ids of shape"),
        ("text", "input_ids of shape"),
        ({"input_ids": [[1, 2]]}, "input_ids of shape"),
        ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, "input_ids of shape"),
        ({"input_ids": torch.zeros(2, 3, dtype=torch.long)}, "batch size 2"),
        (padded(1, 1, 0), "padded on the right"),
        (padded(1, 0, 1), "masked inside"),
    ],
)
def test_what_is_no_single_prompt_is_refused(inputs: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        unpadded(inputs)


def test_a_prompt_without_its_last_token() -> None:
    inputs = {"input_ids": IDS, "position_ids": torch.arange(5).expand(3, 1, 5), "pixel_values": torch.zeros(1, 3)}
    shorter = shortened(inputs)
    assert shorter["input_ids"].tolist() == [[1, 5, 90, 90]]
    assert shorter["position_ids"].tolist() == [[[0, 1, 2, 3]]] * 3
    assert shorter["pixel_values"].shape == (1, 3)
    with pytest.raises(InputError, match="single token"):
        shortened({"input_ids": IDS[:, :1]})


def test_a_prompt_and_its_answer() -> None:
    inputs = {
        "input_ids": IDS,
        "position_ids": torch.arange(5).expand(3, 1, 5) + 2,
        "token_type_ids": torch.tensor([[0, 0, 1, 1, 0]]),
        "cross_attention_mask": torch.tensor([0, 0, 1, 1, 1])[None, :, None, None],
        "pixel_values": torch.zeros(1, 3),
    }
    longer = extended(inputs, [8, 9], kind=1)
    assert longer["input_ids"].tolist() == [[1, 5, 90, 90, 7, 8, 9]]
    assert longer["position_ids"][:, 0].tolist() == [[2, 3, 4, 5, 6, 7, 8]] * 3
    assert longer["token_type_ids"].tolist() == [[0, 0, 1, 1, 0, 1, 1]]
    assert longer["cross_attention_mask"].flatten().tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert longer["pixel_values"] is inputs["pixel_values"]
    assert inputs["input_ids"].shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("input_ids", (1, 5), 1),
        ("token_type_ids", (1, 5), 1),
        ("image_embeds_position_mask", (1, 5), 1),
        ("pixel_attention_mask", (1, 5), None),
        ("image_grid_thw", (1, 5), None),
        ("token_type_ids", (1, 4), None),
        ("position_ids", (3, 1, 5), 2),
        ("position_ids", (3, 1, 4), None),
        ("cross_attention_mask", (1, 5, 1, 4), 1),
        ("cross_attention_mask", (1, 5), None),
    ],
)
def test_which_inputs_have_an_entry_for_every_position(name: str, shape: tuple[int, ...], axis: int | None) -> None:
    assert position_axis(name, torch.zeros(shape), IDS) == axis
    assert position_axis(name, [0] * 5, IDS) is None


def test_an_answers_ids_are_one_row_of_the_vocabulary(llava: tiny.Case) -> None:
    for ids in ([3, 4], torch.tensor([3, 4]), torch.tensor([[3, 4]], dtype=torch.int32)):
        answer = answer_tensor(ids, llava.model)
        assert answer.dtype == torch.int64
        assert answer.tolist() == [3, 4]
    for wrong in ("text", [], [[1, 2], [3, 4]], [0.5], [True], None):
        with pytest.raises(InputError, match="answer_ids must be"):
            answer_tensor(wrong, llava.model)
    for wrong in ([-1], [97]):
        with pytest.raises(InputError, match="vocabulary of 97"):
            answer_tensor(wrong, llava.model)


def test_ids_without_an_embedding_are_refused_but_for_the_pictures_own(llava: tiny.Case) -> None:
    check_vocabulary(llava.model, IDS)
    with pytest.raises(ModelError, match=r"token id 97, and LlavaForConditionalGeneration knows 97.*processor"):
        check_vocabulary(llava.model, torch.tensor([[3, 97]]))
    llava.model.config.image_token_id = 500
    check_vocabulary(llava.model, torch.tensor([[3, 500]]))


def test_an_answer_with_the_image_token_is_refused(llava: tiny.Case) -> None:
    check_no_image_token(llava.model, [3, 4])
    with pytest.raises(InputError, match="image token"):
        check_no_image_token(llava.model, [3, tiny.IMAGE])
