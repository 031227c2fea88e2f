"""What a model needs and at most yields on a GPU, computed from its shape: no measurement.

``python -m saliency_guard.engines.capacity`` prints the sheet of docs/scaling.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saliency_guard.errors import ConfigError

GIB = 1 << 30
_RESERVE = 0.1
"""The part of a GPU's memory that is left to activations, the CUDA context and fragmentation."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a model decides its memory.

    Attributes:
        name: of the model.
        parameters: how many numbers it has, the vision tower included.
        layers: of the decoder.
        kv_heads: key and value heads of a layer.
        head_size: numbers of one head.
    """

    name: str
    parameters: float
    layers: int
    kv_heads: int
    head_size: int

    def kv_bytes(self, bytes_per_number: float = 2.0) -> float:
        """Memory of one position's keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_size * bytes_per_number


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its memory in GiB, and how many gigabytes a second it reads."""

    name: str
    memory: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was computed.

    Attributes:
        weights: GiB.
        per_answer: GiB of one answer's keys and values.
        answers: how many fit side by side; 0 where not even the weights do.
        tokens_per_second: the most that all of them together can be written at.
    """

    weights: float
    per_answer: float
    answers: int
    tokens_per_second: float


MODELS = (
    ModelShape("Qwen2.5-VL-3B", 3.75e9, 36, 2, 128),
    ModelShape("LLaVA-1.5-7B", 7.06e9, 32, 32, 128),
    ModelShape("Qwen2.5-VL-7B", 8.29e9, 28, 4, 128),
    ModelShape("LLaVA-1.5-13B", 13.35e9, 40, 40, 128),
    ModelShape("Qwen2.5-VL-32B", 33.5e9, 64, 8, 128),
    ModelShape("Qwen2.5-VL-72B", 73.4e9, 80, 8, 128),
)
GPUS = (Gpu("L4 24 GB", 22.5, 300), Gpu("A100 80 GB", 79.0, 2039), Gpu("H100 80 GB", 79.0, 3350))


def capacity(
    model: ModelShape,
    gpu: Gpu,
    *,
    positions: int = 2048,
    most_answers: int = 64,
    bytes_per_number: float = 2.0,
    gpus: int = 1,
) -> Capacity:
    """What a model needs on a GPU, and the most that it can yield.

    Writing a token reads all weights once for all answers, and the keys and values of each: memory bandwidth over
    that is the limit. Reading prompts, and scoring, come on top; real servers reach a part of it.

    Args:
        model: the model.
        gpu: the GPU.
        positions: of a prompt, its pictures and its answer together.
        most_answers: how many answers are written side by side at most.
        bytes_per_number: 2 for bfloat16, 4 for float32.
        gpus: how many GPUs the layers are spread over, one after the other (``device_map="auto"``).

    Raises:
        ConfigError: if a number is not above 0.
    """
    if min(positions, most_answers, bytes_per_number, gpus) <= 0:
        msg = "positions, most_answers, bytes_per_number and gpus must be above 0"
        raise ConfigError(msg)
    weights = model.parameters * bytes_per_number
    per_answer = model.kv_bytes(bytes_per_number) * positions
    room = gpus * gpu.memory * (1 - _RESERVE) * GIB - weights
    answers = max(0, min(most_answers, int(room // per_answer)))
    # One GPU works at a time: more of them bring memory, not speed.
    speed = answers * gpu.bandwidth * 1e9 / (weights + answers * per_answer) if answers else 0.0
    return Capacity(weights / GIB, per_answer / GIB, answers, speed)


def sheet(models: Sequence[ModelShape] = MODELS, gpus: Sequence[Gpu] = GPUS, *, positions: int = 2048) -> str:
    """The capacity of models on GPUs, as a Markdown table."""
    rows = [
        ["bfloat16", "weights", "an answer's cache", *(gpu.name for gpu in gpus)],
        ["---", "---:", "---:", *("---:" for _ in gpus)],
    ]
    for model in models:
        fits = [capacity(model, gpu, positions=positions) for gpu in gpus]
        cells = [
            f"{each.answers} answers, {_rounded(each.tokens_per_second)} tokens/s" if each.answers else "does not fit"
            for each in fits
        ]
        rows.append([model.name, f"{fits[0].weights:.1f} GiB", f"{fits[0].per_answer:.2f} GiB", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rounded(value: float) -> str:
    """Two digits that say something: more would pretend to know."""
    return f"{float(f'{value:.2g}'):,.0f}"


if __name__ == "__main__":
    print(sheet())
