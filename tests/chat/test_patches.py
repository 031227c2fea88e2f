"""The box of every position is where a change in the picture changes that position's features most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import families
import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from saliency_guard.chat.patches import Boxes, patch_boxes

CLIP_MEAN = [0.5, 0.5, 0.5]


def tiled(**settings: Any) -> Any:
    return hf.GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, max_patches=6, min_patches=1, **settings)


def square(**settings: Any) -> Any:
    return hf.SiglipImageProcessorPil(size={"height": 16, "width": 16}, **settings)


def next_images(kind: Any, pinpoints: list[list[int]]) -> Any:
    edges = {"crop_size": {"height": 8, "width": 8}} if kind is hf.LlavaNextImageProcessorPil else {}
    return kind(size={"height": 8, "width": 8}, image_grid_pinpoints=pinpoints, **edges)


PINPOINTS = [[8, 16], [16, 8], [16, 16], [8, 24]]
PROCESSORS: dict[str, Callable[[], Any]] = {
    "llava-mha": lambda: hf.CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
    "gemma3": square,
    "internvl": tiled,
    "aya-vision": tiled,
    "idefics3": lambda: hf.Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 16}),
    "smolvlm": lambda: hf.SmolVLMImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 16}),
    "llava-next": lambda: next_images(hf.LlavaNextImageProcessorPil, PINPOINTS),
    "llava-onevision": lambda: next_images(hf.LlavaOnevisionImageProcessorPil, PINPOINTS),
    "pixtral": lambda: hf.PixtralImageProcessorPil(size={"longest_edge": 32}, patch_size={"height": 4, "width": 4}),
    "mistral3": lambda: hf.PixtralImageProcessorPil(size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}),
    "qwen2-vl": lambda: hf.Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=64, max_pixels=4096),
    "qwen3-vl": lambda: hf.Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=64, max_pixels=4096),
    "glm4v": lambda: hf.Glm4vImageProcessorPil(patch_size=4, merge_size=2),
}
SIZES = [(64, 64), (96, 48), (40, 80)]


def picture(size: tuple[int, int], centre: tuple[float, float] | None) -> Image.Image:
    """Grey, with a bright square around a place."""
    pixels = np.full((size[1], size[0], 3), 40, dtype=np.uint8)
    if centre is not None:
        half = max(3, min(size) // 16)
        x, y = int(centre[0] * size[0]), int(centre[1] * size[1])
        pixels[max(0, y - half) : y + half, max(0, x - half) : x + half] = 255
    return Image.fromarray(pixels)


def local(name: str) -> Any:
    """A tiny model whose vision tower mixes nothing: attention gives nothing there."""
    model = families.build(name).model
    for parameter_name, parameter in model.named_parameters():
        is_mixing = any(part in parameter_name for part in ("out_proj", "attn.proj", "attention.proj", "o_proj"))
        if "language_model" not in parameter_name and is_mixing:
            parameter.data.zero_()
    return with_tiles(model)


def with_tiles(model: Any) -> Any:
    if hasattr(model.config, "image_grid_pinpoints"):
        model.config.image_grid_pinpoints = PINPOINTS
    return model.float()


def features(model: Any, images: Any, shown: Image.Image) -> torch.Tensor:
    """``[I, D]`` what the model's decoder is given of a picture."""
    made = images(images=[shown], return_tensors="pt")
    named = {"pixel_values", "image_sizes", "image_grid_thw", "pixel_attention_mask"}
    arguments = {name: value for name, value in made.items() if name in named}
    with torch.no_grad():
        result = model.get_image_features(**arguments)
    pooled = result.pooler_output if hasattr(result, "pooler_output") else result
    if isinstance(pooled, (list, tuple)):
        pooled = torch.cat(list(pooled))
    return pooled.reshape(-1, pooled.shape[-1]).float()


def touches(box: Any, x: float, y: float) -> bool:
    """Whether a box shows part of the square around a place."""
    near = 0.1
    return box is not None and box[0] - near < x < box[2] + near and box[1] - near < y < box[3] + near


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_changes_in_a_box_changes_its_position(name: str, size: tuple[int, int]) -> None:
    images, model = PROCESSORS[name](), local(name)
    plain = features(model, images, picture(size, None))
    boxes = patch_boxes(images, model.config, size, len(plain))
    assert boxes is not None, f"{len(plain)} positions"
    places = [(0.3, 0.3), (0.7, 0.35), (0.4, 0.7), (0.65, 0.65)]
    for x, y in places:
        changed = (features(model, images, picture(size, (x, y))) - plain).norm(dim=-1)
        strongest = int(changed.argmax())
        assert touches(boxes[strongest], x, y), (x, y, strongest, boxes[strongest])


@pytest.mark.parametrize("name", PROCESSORS)
def test_boxes_cover_what_is_seen(name: str) -> None:
    images, model = PROCESSORS[name](), with_tiles(families.build(name).model)
    size = (60, 60)
    boxes = patch_boxes(images, model.config, size, len(features(model, images, picture(size, None))))
    assert boxes is not None
    known = [box for box in boxes if box is not None]
    assert all(0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0 for left, top, right, bottom in known)
    covered = np.zeros((20, 20), dtype=bool)
    for left, top, right, bottom in known:
        covered[round(top * 20) : round(bottom * 20), round(left * 20) : round(right * 20)] = True
    assert covered.mean() > 0.9


def test_a_crop_shows_the_middle() -> None:
    cropped = hf.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    boxes = patch_boxes(cropped, families.build("llava-mha").model.config, (400, 200), 16)
    assert boxes is not None
    assert np.allclose(boxes[0] or (), (0.25, 0.0, 0.375, 0.25), atol=0.01)
    assert np.allclose(boxes[-1] or (), (0.625, 0.75, 0.75, 1.0), atol=0.01)


@pytest.mark.parametrize(
    ("images", "count"),
    [
        (None, 16),
        (tiled(), 7),
        (square(), 0),
        (object(), 16),
        (lambda **_: {"pixel_values": "nothing"}, 16),
        (lambda **_: {"pixel_values": torch.zeros(1, 1, 16, 16)}, 16),
        (lambda **_: {"pixel_values": torch.zeros(1, 3, 16, 16)}, 16),
        (lambda **_: {"pixel_values": torch.zeros(4, 12), "image_grid_thw": torch.tensor([[2, 2, 2]])}, 4),
    ],
)
def test_what_is_not_known_has_no_boxes(images: Any, count: int) -> None:
    boxes: Boxes | None = patch_boxes(images, families.build("llava-mha").model.config, (64, 48), count)
    assert boxes is None
