"""Training batches: pictures, their patch labels, and many exchanges about each in one sequence.

The exchanges about a picture share its prefix (``<s>USER: <image>``) and do not see each other: a
block mask and positions that restart after the prefix make every exchange what it is at inference,
while the picture's tokens are computed once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from saliency_guard.embedded.architecture import IMAGE_SIZE, IMAGE_TOKENS, token_id
from saliency_guard.scenes import language
from saliency_guard.scenes.scene import render, sample_scene
from saliency_guard.training.augment import LOOKS, look
from saliency_guard.training.pictures import IGNORED, patch_labels, picture_tensor

TRAINING_SEEDS = 1_000_000_000
"""Training scenes have seeds from here on; everything below is for evaluation."""

_QUESTIONS = 4
_RETOUCHED = 0.6
_CUT_SHORT = 0.7
_PLACES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One training batch.

    Attributes:
        pixels: ``[B, 3, 128, 128]`` float, in -1..1.
        patches: ``[B, 64]`` class index per patch, ``len(CLASSES)`` for background, -100 undecided.
        input_ids, labels, position_ids: ``[B, T]``; empty where only the tower is trained.
        segments: ``[B, T]``; 0 prefix, k the k-th exchange, -1 padding.
    """

    pixels: Tensor
    patches: Tensor
    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    segments: Tensor

    def mask(self, dtype: torch.dtype) -> Tensor:
        """``[B, 1, T, T]`` additive mask: causal, own segment and prefix only."""
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        steps = torch.arange(self.segments.shape[1], device=self.segments.device)
        allowed = ((key == 0) | (query == key)) & (steps[:, None] >= steps[None, :])
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One picture: its tensors, and the ids, labels, positions and segments of the texts about it."""

    pixels: Tensor
    patches: Tensor
    text: tuple[list[int], list[int], list[int], list[int]]


class SceneBatches(Dataset[Batch]):
    """Batch number k, always the same for the same arguments."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, batch_size: int, first: int, last: int, vision_steps: int
    ) -> None:
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._first = first
        self._last = last
        self._vision_steps = vision_steps

    def _encode(self, text: str) -> list[int]:
        # The Rust tokenizer itself: ten times faster than its wrapper, and texts are many and short.
        ids: list[int] = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, index: int) -> Batch:
        """Batch ``first + index``."""
        number = self._first + index
        start = TRAINING_SEEDS + number * self._batch_size
        with_text = number >= self._vision_steps
        rows = [self._row(seed, with_text=with_text) for seed in range(start, start + self._batch_size)]
        width = max(len(row.text[0]) for row in rows)

        def padded(column: int, value: int) -> Tensor:
            columns = [row.text[column] for row in rows]
            return torch.tensor([values + [value] * (width - len(values)) for values in columns])

        return Batch(
            pixels=torch.stack([row.pixels for row in rows]),
            patches=torch.stack([row.patches for row in rows]),
            input_ids=padded(0, self._tokenizer.pad_token_id),
            labels=padded(1, IGNORED),
            position_ids=padded(2, 0),
            segments=padded(3, -1),
        )

    def _row(self, seed: int, *, with_text: bool) -> _Row:
        # Separate random numbers: those of the seed itself have drawn the scene.
        rng = random.Random(f"{seed} training")
        scene = sample_scene(seed)
        # Real pictures are larger and get scaled down: some training pictures are, too.
        size = IMAGE_SIZE if rng.random() < 0.7 else IMAGE_SIZE * 2
        sprites = look(scene.style, rng.randrange(LOOKS)) if rng.random() < _RETOUCHED else None
        drawn = render(scene, size, sprites=sprites)
        pixels, patches = picture_tensor(drawn.image), patch_labels(drawn, scene)
        if not with_text:
            return _Row(pixels, patches, ([], [], [], []))

        encode = self._encode
        ids = encode("<s>USER: ") + [token_id(self._tokenizer, "<image>")] * IMAGE_TOKENS + encode("\n")
        labels, positions, segments = [IGNORED] * len(ids), list(range(len(ids))), [0] * len(ids)
        prefix = len(ids)
        exchanges = [*language.questions(scene, rng, _QUESTIONS), language.describe(scene, rng)]
        # Places are learnt last, so they are asked for more often than in the mix of questions.
        shown = list(scene.counts)
        rng.shuffle(shown)
        exchanges += [language.where(scene, name) for name in shown[:_PLACES]]
        for number, exchange in enumerate(exchanges, start=1):
            prompt = encode(f"{exchange.question}\nASSISTANT:\n")
            answer = [*encode(exchange.answer), self._tokenizer.eos_token_id]
            if exchange.answer.startswith(("Yes", "No")) and rng.random() < _CUT_SHORT:
                # The first word decides the rest: the time is better spent on other pictures.
                answer = answer[:1]
            length = len(prompt) + len(answer)
            ids += prompt + answer
            labels += [IGNORED] * len(prompt) + answer
            positions += range(prefix, prefix + length)
            segments += [number] * length
        return _Row(pixels, patches, (ids, labels, positions, segments))
