"""Training batches of the second kind: sheets about pictures that were drawn before.

The exchanges of a sheet share its beginning and do not see each other, as in `saliency_guard.training.data`. Rows are
drawn by the pool, sorted by length, and cut into batches that cost about the same.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from saliency_guard.embedded.architecture import IMAGE_SIZE, IMAGE_TOKENS, token_id
from saliency_guard.scenes.scene import Scene
from saliency_guard.training.data import Batch
from saliency_guard.training.mentions import MOST_PICTURES, Labels, labels, mentions
from saliency_guard.training.mixture import Part, part
from saliency_guard.training.pictures import IGNORED, UNDECIDED
from saliency_guard.training.shards import SHARD, Shard, shards, training_scene
from saliency_guard.training.sheets import Branch, Sheet

LONGEST = 2000
"""Rows with more tokens lose branches."""

_POOL = 12
ROWS = 22
"""Rows of a batch, in the mean."""

_ALIKE = 0.5
_QUADRATIC = 3000.0


@dataclass(frozen=True, slots=True, eq=False)
class Sheets(Batch):
    """A batch of rows with any number of pictures: ``pixels`` holds ``[P, 128, 128, 3]`` uint8 of all of them.

    Attributes:
        share: its answer tokens as a part of those of a mean batch of its pool.
        kinds: index of each row's kind of text (in ``MIXTURE``).
        mentioned: ``[M, 2]`` rows and columns of the tokens that end the name of a class.
        known: ``[M, 6]`` what is to be known there, as in `saliency_guard.training.mentions.labels`.
    """

    share: Tensor
    kinds: Tensor
    mentioned: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    pictures: list[tuple[str, int]]
    ids: list[int]
    labels: list[int]
    positions: list[int]
    segments: list[int]
    kind: int
    mentioned: list[tuple[int, Labels]]


class Encoder:
    """Sheets as token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        # The Rust tokenizer itself: ten times faster than its wrapper, and texts are many and short.
        self._backend = tokenizer.backend_tokenizer
        self._image = token_id(tokenizer, "<image>")
        self._end = int(tokenizer.eos_token_id)

    def text(self, text: str) -> list[int]:
        """Ids, with as many placeholders for each picture as it has cells."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        if self._image not in ids:
            return ids
        return [each for token in ids for each in ([token] * IMAGE_TOKENS if token == self._image else [token])]

    def answer(self, branch: Branch) -> tuple[list[int], list[int]]:
        """Ids and labels of an answer, with its end."""
        encoded = self._backend.encode(branch.answer, add_special_tokens=False)
        ids: list[int] = encoded.ids
        if branch.short:
            return ids[:1], ids[:1]
        labels = [
            IGNORED if any(start <= a and b <= stop for start, stop in branch.silent) else token
            for token, (a, b) in zip(ids, encoded.offsets, strict=True)
        ]
        return [*ids, self._end], [*labels, self._end]

    def ends(self, text: str) -> list[tuple[int, str]]:
        """The tokens of a text that end the name of a class, and the classes."""
        named = mentions(text)
        if not named:
            return []
        starts = [start for start, _ in self._backend.encode(text, add_special_tokens=False).offsets]
        return [(bisect_left(starts, end) - 1, name) for end, name in named]

    def row(self, sheet: Sheet, pictures: list[tuple[str, int]], kind: int, shown: Sequence[Scene | None] = ()) -> _Row:
        """A row; branches that are too much for it are left out."""
        ids = self.text(sheet.prefix)
        prefix = len(ids)
        targets, positions, segments = [IGNORED] * prefix, list(range(prefix)), [0] * prefix
        mentioned: list[tuple[int, Labels]] = []
        for number, branch in enumerate(sheet.branches, start=1):
            prompt = self.text(branch.prompt)
            answer, learnt = self.answer(branch)
            length = len(prompt) + len(answer)
            if number > 1 and len(ids) + length > LONGEST:
                continue
            if shown:
                named = self.ends(branch.prompt)
                named += [(len(prompt) + at, name) for at, name in self.ends(branch.answer) if at < len(answer)]
                mentioned += [(len(ids) + at, labels(name, shown)) for at, name in named]
            ids += prompt + answer
            targets += [IGNORED] * len(prompt) + learnt
            positions += range(prefix, prefix + length)
            segments += [number] * length
        return _Row(pictures, ids, targets, positions, segments, kind, mentioned)


@dataclass(eq=False)
class Pictures:
    """The pictures on disk, and what they show."""

    folder: Path
    kinds: dict[str, list[Shard]] = field(default_factory=dict)
    _open: dict[tuple[str, int], tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kinds = {kind: shards(self.folder, kind) for kind in ("scenes", "blanks")}
        if not self.kinds["scenes"] or not self.kinds["blanks"]:
            msg = f"{self.folder} holds no pictures: make them with saliency_guard.training.shards"
            raise FileNotFoundError(msg)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: pickled, they would carry all pixels."""
        return {**self.__dict__, "_open": {}}

    def draw(self, rng: random.Random, kind: str) -> tuple[str, int]:
        """One of the pictures of a kind: its kind and number."""
        return kind, rng.randrange(self.count(kind))

    def count(self, kind: str) -> int:
        """How many pictures of a kind there are; only the last shard may be a short one."""
        return SHARD * (len(self.kinds[kind]) - 1) + len(self._shard((kind, len(self.kinds[kind]) - 1))[0])

    def scene(self, picture: tuple[str, int]) -> Scene | None:
        """What a picture shows."""
        kind, number = picture
        if kind == "blanks":
            return None
        return training_scene(self.kinds[kind][number // SHARD].seeds[number % SHARD])

    def load(self, picture: tuple[str, int]) -> tuple[Tensor, Tensor]:
        """Its pixels ``[128, 128, 3]``, and the labels of its cells."""
        kind, number = picture
        pixels, patches = self._shard((kind, number // SHARD))
        labels = patches[number % SHARD].astype(np.int64)
        labels[labels == UNDECIDED] = IGNORED
        return torch.tensor(pixels[number % SHARD]), torch.from_numpy(labels)

    def _shard(self, key: tuple[str, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        if key not in self._open:
            shard = self.kinds[key[0]][key[1]]
            self._open[key] = (shard.pixels, shard.patches)
        return self._open[key]


class SheetBatches(Dataset[Sheets]):
    """Batch number k, always the same for the same seed and pictures; there is no last one."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, folder: Path, *, seed: int = 0, early: int = 0, rows: int = ROWS
    ) -> None:
        self._encoder = Encoder(tokenizer)
        self._pad = int(tokenizer.pad_token_id)
        self._pictures = Pictures(folder)
        self._seed = seed
        self._early = early
        self._rows = rows
        self._pool: tuple[int, list[list[_Row]]] | None = None

    @property
    def available(self) -> dict[str, int]:
        """How many pictures there are of each kind."""
        return {kind: self._pictures.count(kind) for kind in self._pictures.kinds}

    def __getitem__(self, number: int) -> Sheets:
        """Batch ``number``."""
        batches = self._batches(number // _POOL)
        learnt = [sum(label != IGNORED for row in rows for label in row.labels) for rows in batches]
        rows = batches[number % _POOL]
        return self._packed(rows, learnt[number % _POOL] * len(batches) / sum(learnt))

    def _batches(self, pool: int) -> list[list[_Row]]:
        if self._pool is None or self._pool[0] != pool:
            rng = random.Random(f"{self._seed} pool {pool}")
            rows = sorted(
                (self._row(rng, pool * _POOL) for _ in range(_POOL * self._rows)), key=lambda row: len(row.ids)
            )
            batches = cut(rows, [len(row.ids) * (1 + len(row.ids) / _QUADRATIC) for row in rows])
            rng.shuffle(batches)
            self._pool = pool, batches
        return self._pool[1]

    def _row(self, rng: random.Random, step: int) -> _Row:
        kind, index = part(rng, early=step < self._early)
        pictures = self._chosen(kind, rng)
        shown = [self._pictures.scene(each) for each in pictures]
        return self._encoder.row(kind.make(shown, rng), pictures, index, shown)

    def _chosen(self, kind: Part, rng: random.Random) -> list[tuple[str, int]]:
        count = kind.pictures[rng.randrange(len(kind.pictures))]
        chosen: list[tuple[str, int]] = []
        for _ in range(count):
            picture = self._pictures.draw(rng, "blanks" if rng.random() < kind.blank else "scenes")
            if chosen and rng.random() < _ALIKE:
                picture = self._alike(chosen[0], picture, rng)
            chosen.append(picture)
        return chosen

    def _alike(self, first: tuple[str, int], picture: tuple[str, int], rng: random.Random) -> tuple[str, int]:
        """A picture that shows something the first one shows, if one is soon found."""
        scene = self._pictures.scene(first)
        for _ in range(12):
            other = self._pictures.scene(picture)
            if scene is None or other is None or set(scene.counts) & set(other.counts):
                break
            picture = self._pictures.draw(rng, "scenes")
        return picture

    def _packed(self, rows: Sequence[_Row], share: float) -> Sheets:
        width = max(len(row.ids) for row in rows)

        def padded(columns: list[list[int]], value: int) -> Tensor:
            return torch.tensor([values + [value] * (width - len(values)) for values in columns])

        loaded = [self._pictures.load(picture) for row in rows for picture in row.pictures]
        no_pictures = torch.zeros(0, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)
        no_labels = torch.zeros(0, IMAGE_TOKENS, dtype=torch.long)
        mentioned = [(number, at, known) for number, row in enumerate(rows) for at, known in row.mentioned]
        return Sheets(
            pixels=torch.stack([pixels for pixels, _ in loaded]) if loaded else no_pictures,
            patches=torch.stack([patches for _, patches in loaded]) if loaded else no_labels,
            input_ids=padded([row.ids for row in rows], self._pad),
            labels=padded([row.labels for row in rows], IGNORED),
            position_ids=padded([row.positions for row in rows], 0),
            segments=padded([row.segments for row in rows], -1),
            share=torch.tensor(share),
            kinds=torch.tensor([row.kind for row in rows]),
            mentioned=torch.tensor([(number, at) for number, at, _ in mentioned]).reshape(-1, 2),
            known=torch.tensor([known for _, _, known in mentioned]).reshape(-1, MOST_PICTURES + 2),
        )


def order(first: int, last: int, workers: int) -> list[int]:
    """Batch numbers for steps ``first`` to ``last - 1``, so that each of many workers makes whole pools."""
    block = _POOL * max(1, workers)
    numbers = [
        start + worker * _POOL + number
        for start in range(0, last, block)
        for number in range(_POOL)
        for worker in range(max(1, workers))
    ]
    return numbers[first:last]


def cut(rows: Sequence[_Row], costs: Sequence[float]) -> list[list[_Row]]:
    """Rows in order, cut into ``_POOL`` runs that cost about the same."""
    sums = list(accumulate(costs))
    batches: list[list[_Row]] = [[] for _ in range(_POOL)]
    for row, cost, reached in zip(rows, costs, sums, strict=True):
        middle = reached - cost / 2
        batches[min(_POOL - 1, int(middle * _POOL / sums[-1]))].append(row)
    return batches
