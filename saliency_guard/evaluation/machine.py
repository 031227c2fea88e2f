"""Measurements of the machine: seconds of a call, peak memory, and the least time that a token can take."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

Inputs = Mapping[str, Tensor]
Way = Callable[[PreTrainedModel, Inputs, int], object]
"""A way of generating an answer, called with model, prompt and number of tokens."""

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Floor:
    """The best that the machine can do for a model.

    Attributes:
        weight_bytes: bytes of weights that every token has to read, of the decoder and its output head.
        token_seconds: seconds of multiplying each of these weights with a vector, and nothing else.
        flops: operations of multiplying the whole prompt with the weights.
        prompt_seconds: seconds of just these multiplications.
    """

    weight_bytes: int
    token_seconds: float
    flops: int
    prompt_seconds: float


def floor(model: PreTrainedModel, prompt: int) -> Floor:
    """Count bytes and operations, and time only the multiplications with the weights."""
    modules = [model.get_decoder(), model.get_output_embeddings()]
    linear = [layer.weight for module in modules for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    token_vectors = {weight.shape[1]: weight.new_ones(1, weight.shape[1]) for weight in linear}
    prompt_vectors = {width: vector.expand(prompt, -1).contiguous() for width, vector in token_vectors.items()}

    def best(vectors: Mapping[int, Tensor]) -> float:
        def work() -> None:
            # The head needs only the last position.
            for weight in linear[:-1] if vectors is prompt_vectors else linear:
                torch.nn.functional.linear(vectors[weight.shape[1]], weight)

        return min(_seconds(work, model.device) for _ in range(10))

    parameters = [weight.numel() for weight in linear]
    with torch.no_grad():
        return Floor(
            sum(parameters) * linear[0].element_size(),
            best(token_vectors),
            2 * prompt * sum(parameters[:-1]),
            best(prompt_vectors),
        )


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, including work that is queued on the device."""
    gc.collect()
    return _seconds(work, device)


def median_ratio(taken: Sequence[float], base: Sequence[float]) -> float:
    """Median over rounds of the ratio of two times of the same round."""
    return statistics.median(here / there for here, there in zip(taken, base, strict=True))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak() -> None:
    """Reset the peak, because building a model takes more memory than running it."""
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Peak memory of this process since `forget_peak`, in bytes."""
    if not _STATUS.exists():  # Other systems only have the peak since the process started.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
