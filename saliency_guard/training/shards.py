"""Training pictures, drawn once and kept on disk: ``python -m saliency_guard.training.shards``.

A picture is drawn once and asked about many times. Pictures lie in shards; whoever trains takes the shards that are
complete, so that more can be made meanwhile.
"""

from __future__ import annotations

import argparse
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from saliency_guard.embedded.architecture import IMAGE_SIZE, IMAGE_TOKENS
from saliency_guard.scenes.scene import Scene, render, sample_scene
from saliency_guard.scenes.sprites import LINE_STYLES, OTHER_STYLES, STYLES
from saliency_guard.scenes.vocabulary import CLASSES
from saliency_guard.training.augment import LOOKS, look
from saliency_guard.training.blanks import blank_picture
from saliency_guard.training.pictures import UNDECIDED, patch_labels, resized

FIRST_SEED = 1_001_000_000
"""Pictures of this run have seeds from here on: none of those that the tower itself was first trained on."""

SHARD = 4096
_STYLES = (*STYLES * 2, *OTHER_STYLES)
_RETOUCHED = 0.6
_LINES_RETOUCHED = 0.95
_LARGER = 0.4


@dataclass(frozen=True, slots=True)
class Shard:
    """``SHARD`` pictures of a kind.

    Attributes:
        folder: where the shards lie.
        kind: ``"scenes"``, or ``"blanks"``: pictures that show nothing that can be named.
        number: of the shard.
    """

    folder: Path
    kind: str
    number: int

    def file(self, what: str) -> Path:
        """Where ``"pixels"`` or ``"patches"`` lie."""
        return self.folder / f"{self.kind}-{self.number:05d}-{what}.npy"

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """``[SHARD, 128, 128, 3]``, mapped from the disk."""
        return np.load(self.file("pixels"), mmap_mode="r")  # type: ignore[no-any-return]

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
    numbers = sorted(int(path.name.split("-")[1]) for path in folder.glob(f"{kind}-*-pixels.npy"))
    return [Shard(folder, kind, number) for number in numbers]


def training_scene(seed: int) -> Scene:
    """A scene in any of the styles, the drawn world's own more often."""
    return sample_scene(seed, styles=_STYLES)


def scene_picture(seed: int) -> tuple[Scene, Image.Image, npt.NDArray[np.uint8]]:
    """A training scene, its picture in one of its style's looks, and its cells' labels."""
    rng = random.Random(f"{seed} picture")
    scene = training_scene(seed)
    # Real pictures are larger and get scaled down: some training pictures are, too.
    size = IMAGE_SIZE * 2 if rng.random() < _LARGER else IMAGE_SIZE
    # Black ink on white paper is one of many: line drawings nearly always come in other colours.
    retouched = rng.random() < (_LINES_RETOUCHED if scene.style in LINE_STYLES else _RETOUCHED)
    sprites = look(scene.style, rng.randrange(LOOKS)) if retouched else None
    drawn = render(scene, size, sprites=sprites)
    labels = patch_labels(drawn, scene).numpy()
    return scene, drawn.image, np.where(labels < 0, UNDECIDED, labels).astype(np.uint8)


def make_shard(shard: Shard, size: int = SHARD) -> None:
    """Draw the pictures of a shard and write them; an interrupted shard is none of `shards`."""
    pixels = np.empty((size, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    patches = np.full((size, IMAGE_TOKENS), len(CLASSES), dtype=np.uint8)
    for number, seed in enumerate(shard.seeds[:size]):
        if shard.kind == "blanks":
            image = blank_picture(seed, IMAGE_SIZE * 2)
        else:
            _, image, patches[number] = scene_picture(seed)
        pixels[number] = resized(image)
    shard.folder.mkdir(parents=True, exist_ok=True)
    np.save(shard.file("patches"), patches)
    partial = shard.file("pixels").with_suffix(".part")
    with partial.open("wb") as file:
        np.save(file, pixels)
    partial.replace(shard.file("pixels"))


def main() -> None:
    """Parse the command line and make the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--scenes", type=int, default=24, help="shards of scenes")
    parser.add_argument("--blanks", type=int, default=1, help="shards of pictures that show nothing")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw, each with up to 2 GB")
    arguments = parser.parse_args()
    wanted = [Shard(arguments.out, "scenes", number) for number in range(arguments.scenes)]
    wanted[1:1] = [Shard(arguments.out, "blanks", number) for number in range(arguments.blanks)]
    missing = [shard for shard in wanted if not shard.file("pixels").exists()]
    with ProcessPoolExecutor(arguments.workers) as pool:
        for shard, _ in zip(missing, pool.map(make_shard, missing), strict=True):
            print(shard.file("pixels"), flush=True)


if __name__ == "__main__":
    main()
