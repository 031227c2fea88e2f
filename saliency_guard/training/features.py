"""What the vision tower says of training pictures, kept on disk: ``python -m saliency_guard.training.features``.

A picture is drawn and looked at once and asked about many times: a run of the language model alone costs a
fraction of one that draws and looks every time. Pictures lie in shards; whoever trains takes the shards that
are complete, so that more can be made meanwhile.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.embedded.architecture import IMAGE_SIZE, IMAGE_TOKENS
from saliency_guard.scenes.scene import Scene, render, sample_scene
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training.augment import LOOKS, look
from saliency_guard.training.blanks import blank_picture
from saliency_guard.training.pictures import UNDECIDED, patch_labels, picture_tensor

FIRST_SEED = 1_001_000_000
"""Pictures of this run have seeds from here on: none of those that the tower itself was trained on."""

SHARD = 4096
_RETOUCHED = 0.6
_LARGER = 0.4
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Shard:
    """Pictures ``first`` to ``first + SHARD - 1`` of a kind.

    Attributes:
        folder: where the shards lie.
        kind: ``"scenes"``, or ``"blanks"``: pictures that show nothing that can be named.
        number: of the shard.
    """

    folder: Path
    kind: str
    number: int

    def file(self, what: str) -> Path:
        """Where ``"features"`` or ``"patches"`` lie."""
        return self.folder / f"{self.kind}-{self.number:05d}-{what}.npy"

    @property
    def features(self) -> npt.NDArray[np.float16]:
        """``[SHARD, 64, width]``, mapped from the disk."""
        return np.load(self.file("features"), mmap_mode="r")  # type: ignore[no-any-return]

    @property
    def patches(self) -> npt.NDArray[np.uint8]:
        """``[SHARD, 64]``: class of each cell, ``len(CLASSES)`` for background, 255 undecided."""
        return np.load(self.file("patches"), mmap_mode="r")  # type: ignore[no-any-return]

    @property
    def seeds(self) -> range:
        """The seeds of its pictures."""
        return range(FIRST_SEED + self.number * SHARD, FIRST_SEED + (self.number + 1) * SHARD)


def shards(folder: Path, kind: str) -> list[Shard]:
    """The complete shards of a kind, in order."""
    numbers = sorted(int(path.name.split("-")[1]) for path in folder.glob(f"{kind}-*-features.npy"))
    return [Shard(folder, kind, number) for number in numbers]


def scene_picture(seed: int) -> tuple[Scene, Image.Image, npt.NDArray[np.uint8]]:
    """A training scene, its picture in one of its style's looks, and its cells' labels."""
    rng = random.Random(f"{seed} picture")
    scene = sample_scene(seed)
    # Real pictures are larger and get scaled down: some training pictures are, too.
    size = IMAGE_SIZE * 2 if rng.random() < _LARGER else IMAGE_SIZE
    sprites = look(scene.style, rng.randrange(LOOKS)) if rng.random() < _RETOUCHED else None
    drawn = render(scene, size, sprites=sprites)
    labels = patch_labels(drawn, scene).numpy()
    return scene, drawn.image, np.where(labels < 0, UNDECIDED, labels).astype(np.uint8)


def make_shard(model: LlavaForConditionalGeneration, shard: Shard, size: int = SHARD) -> None:
    """Draw the pictures of a shard, compute their features and write them; an interrupted shard leaves no file."""
    device = next(model.parameters()).device
    features: list[npt.NDArray[np.float16]] = []
    patches: list[npt.NDArray[np.uint8]] = []
    seeds = list(shard.seeds)[:size]
    for start in range(0, len(seeds), _BATCH):
        pictures = list(_pictures(shard.kind, seeds[start : start + _BATCH]))
        pixels = torch.stack([picture_tensor(image) for image, _ in pictures])
        with torch.inference_mode():
            seen = model.model.vision_tower(pixels.to(device)).last_hidden_state
        features.append(seen.cpu().numpy().astype(np.float16))
        patches += [labels for _, labels in pictures]
    shard.folder.mkdir(parents=True, exist_ok=True)
    np.save(shard.file("patches"), np.stack(patches))
    partial = shard.file("features").with_suffix(".part")
    with partial.open("wb") as file:
        np.save(file, np.concatenate(features))
    partial.replace(shard.file("features"))


def _pictures(kind: str, seeds: list[int]) -> Iterator[tuple[Image.Image, npt.NDArray[np.uint8]]]:
    for seed in seeds:
        if kind == "blanks":
            image = blank_picture(seed, IMAGE_SIZE * 2)
            yield image, np.full(IMAGE_TOKENS, len(CLASSES), dtype=np.uint8)
        else:
            _, image, labels = scene_picture(seed)
            yield image, labels


def main() -> None:
    """Parse the command line and make the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--model", type=Path, default=EMBEDDED_PATH, help="whose tower looks")
    parser.add_argument("--scenes", type=int, default=12, help="shards of scenes")
    parser.add_argument("--blanks", type=int, default=1, help="shards of pictures that show nothing")
    parser.add_argument("--first", type=int, default=0, help="number of the first shard of scenes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(arguments.model, dtype=torch.float32)
    model = loaded.to(arguments.device).eval()
    wanted = [Shard(arguments.out, "scenes", arguments.first + number) for number in range(arguments.scenes)]
    wanted[1:1] = [Shard(arguments.out, "blanks", number) for number in range(arguments.blanks)]
    for shard in wanted:
        if not shard.file("features").exists():
            make_shard(model, shard)
            print(shard.file("features"), flush=True)


if __name__ == "__main__":
    main()
