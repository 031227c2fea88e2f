"""What the machine does: seconds of a call, bytes at the peak, and the least that one token can take."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

Inputs = Mapping[str, Tensor]
Way = Callable[[PreTrainedModel, Inputs, int], object]
"""A way of writing an answer: model, prompt, number of tokens."""

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Floor:
    """What the machine can do at best for one model.

    Attributes:
        weight_bytes: that every token has to read, of the decoder and its output head.
        token_seconds: of multiplying each of those weights with one vector, and nothing else.
        flops: operations of one pass over the prompt's products with the weights.
        prompt_seconds: of just these.
    """

    weight_bytes: int
    token_seconds: float
    flops: int
    prompt_seconds: float


def floor(model: PreTrainedModel, prompt: int) -> Floor:
    """Count bytes and operations, and time the machine at just these."""
    modules = [model.get_decoder(), model.get_output_embeddings()]
    linear = [layer.weight for module in modules for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    one = {weight.shape[1]: weight.new_ones(1, weight.shape[1]) for weight in linear}
    all_ = {width: vector.expand(prompt, -1).contiguous() for width, vector in one.items()}

    def best(vectors: Mapping[int, Tensor]) -> float:
        def work(*_: object) -> None:
            for weight in linear[:-1] if vectors is all_ else linear:  # The head sees the last position alone.
                torch.nn.functional.linear(vectors[weight.shape[1]], weight)

        return min(timed(work, model, {}, 0) for _ in range(10))

    parameters = [weight.numel() for weight in linear]
    with torch.no_grad():
        return Floor(
            sum(parameters) * linear[0].element_size(), best(one), 2 * prompt * sum(parameters[:-1]), best(all_)
        )


def timed(way: Way, model: PreTrainedModel, inputs: Inputs, tokens: int) -> float:
    """Seconds of one answer, the device's queue included."""
    gc.collect()
    _wait(model)
    begun = time.perf_counter()
    way(model, inputs, tokens)
    _wait(model)
    return time.perf_counter() - begun


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def forget_peak() -> None:
    """Begin to look for the peak anew: building a model takes more room than running it."""
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Bytes at the peak of this process since `forget_peak`."""
    if not _STATUS.exists():  # Not Linux: the peak of the whole process is all there is.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
