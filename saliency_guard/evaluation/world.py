"""The picture world as a benchmark: its splits, its pictures, and answers generated in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from PIL import Image

from saliency_guard.chat.messages import chat_about
from saliency_guard.errors import ConfigError
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes import openmoji, tuxpaint
from saliency_guard.scenes.redrawn import Redrawn
from saliency_guard.scenes.scene import Scene, render, sample_scene
from saliency_guard.scenes.sprites import STYLES

FIRST_SEEDS: MappingProxyType[str, int] = MappingProxyType(
    {
        "development": 500_000,
        "training styles": 600_000,
        "openmoji": 700_000,
        "tuxpaint": 800_000,
        "calibration": 900_000,
    }
)
"""First seed of each split's scenes; those of training begin at 10**9. No two splits share a scene, and
"development" has scenes for experiments and tests."""

PICTURE_SIZE = 224

Item = TypeVar("Item")

SPLITS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "training styles": STYLES,
        "openmoji": (openmoji.NAME,),
        "tuxpaint": (tuxpaint.NAME,),
        "development": STYLES,
        "calibration": STYLES,
    }
)
"""Split -> drawing styles: those the embedded model was trained on, one that it was not trained on (OpenMoji), photo
cut-outs (Tux Paint), and two splits for development and for fitting calibrations."""

_TITLES: MappingProxyType[str, str] = MappingProxyType(
    {
        "training styles": "Training styles",
        "openmoji": "OpenMoji",
        "tuxpaint": "Tux Paint",
        "photographs": "Photographs",
        "synthetic pictures": "Synthetic pictures",
    }
)


def title(split: str) -> str:
    """The name of a split in tables and plots."""
    return _TITLES.get(split, split)


@dataclass(frozen=True, slots=True, eq=False)
class WorldPicture:
    """A scene and its picture.

    Attributes:
        scene: what it shows.
        image: the picture.
        redrawn: whether it is drawn as none of the styles is.
    """

    scene: Scene
    image: Image.Image
    redrawn: bool = False

    def drawn_otherwise(self) -> WorldPicture:
        """The same scene, drawn as none of the styles is."""
        return WorldPicture(
            self.scene, render(self.scene, PICTURE_SIZE, sprites=Redrawn(self.scene)).image, redrawn=True
        )


def pictures(split: str, count: int) -> Iterator[WorldPicture]:
    """Pictures of a split that show at least one object, in the order of their seeds.

    Raises:
        ConfigError: if there is no such split.
        MissingExtraError: if its drawings are not installed (`InputError` for the cut-outs).
    """
    if split not in SPLITS:
        msg = f"there is no split {split!r}; the splits are: {', '.join(SPLITS)}"
        raise ConfigError(msg)
    seed = FIRST_SEEDS[split]
    while count > 0:
        scene = sample_scene(seed, styles=SPLITS[split])
        seed += 1
        if scene.objects:
            count -= 1
            yield WorldPicture(scene, render(scene, PICTURE_SIZE).image)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of ``size``; the last list may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def write_answers(
    lvlm: LVLM,
    images: Sequence[Image.Image | Sequence[Image.Image]],
    questions: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """Answers of a batch of questions by the model's ``generate``, without guards.

    Args:
        lvlm: the model.
        images: one image, or several, per question.
        questions: the questions.
        max_new_tokens: largest number of tokens of each answer.
        temperature: 0 is greedy.
        seed: seed of torch's random numbers for sampling; the caller's random state is restored.

    Returns:
        Token ids of each answer, without the end token.
    """
    encoded = lvlm.processor.apply_chat_template(
        [
            chat_about([shown] if isinstance(shown, Image.Image) else shown, question)
            for shown, question in zip(images, questions, strict=True)
        ],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    inputs = {
        name: value.to(lvlm.model.device, lvlm.model.dtype if value.is_floating_point() else None)
        for name, value in encoded.items()
        if isinstance(value, torch.Tensor)
    }
    # Overrides the beams and penalties of a checkpoint's generation config, so that all models decode the same way.
    sampling: dict[str, Any] = {"do_sample": temperature > 0, "num_beams": 1, "repetition_penalty": 1.0}
    if temperature > 0:
        sampling |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        sequences = lvlm.model.generate(**inputs, max_new_tokens=max_new_tokens, **sampling)  # type: ignore[operator]
    answers = sequences[:, inputs["input_ids"].shape[1] :].tolist()
    return [_without_end(ids, lvlm.end_tokens) for ids in answers]


def _without_end(ids: list[int], end_tokens: frozenset[int]) -> list[int]:
    stop = next((index for index, token in enumerate(ids) if token in end_tokens), len(ids))
    return ids[:stop]
