"""What a calibration sees of a token: groups of numbers from an `AnswerTrace`, with scales that models can compare.

None of them knows which word was written: to know that some words are wrong more often than others takes no
look at the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from saliency_guard.models.vision_features import RECOGNITION
from saliency_guard.signals import PRIORS, SIGNALS, compute
from saliency_guard.signals.trace import AnswerTrace

Floats = npt.NDArray[np.float64]

FEATURES_VERSION = 4
"""Of everything a feature is computed from; a calibration of another version is refused."""

DEAR = ("contrast", "logit_lens", "focused_lens", "glsim", "llcc", "ads", "cgc", "vauq")
"""Signals that read the prompt or the answer a second time, or look at every position of a picture layer by layer; what
they say, verification says better."""
SUMMARIES = tuple(name for name in SIGNALS if name not in {*PRIORS, *DEAR})
"""The signals that a calibration is fitted on, without those that only say where in the answer a token stands."""

VERIFICATION = "verification"
"""The group of what the model says of a claim when it is asked about it alone; no trace has it."""
RECOGNISED = "recognised"
"""The group of how surely the model recognises the pictures that a claim is about; no trace has it."""
RECOGNISED_SIZE = RECOGNITION + 1

_TOP = 4
_LEVELS = (0.1, 0.3, 0.6, 0.9)
_NOWHERE = -30.0
_FLOOR = 1e-3


def scaled(values: Floats) -> Floats:
    """``[n, k]`` in units of a small part of each row's mean: gradients have no scale of their own."""
    result: Floats = values / np.maximum(_FLOOR * np.abs(values).mean(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return result


def logs(values: Floats) -> Floats:
    """Masses of attention span orders of magnitude: their logarithms are what adds up."""
    result: Floats = np.log1p(scaled(values))
    return result


def signed_logs(values: Floats) -> Floats:
    """`logs` of numbers with a sign."""
    result: Floats = np.arcsinh(scaled(values))
    return result


def lens_evidence(trace: AnswerTrace) -> Tensor:
    """What the logit lens finds of each token in the picture: ``[N, lens layers * 10]``.

    Per layer: the four largest log-probabilities at image positions, how many positions see it with more than
    each of four probabilities, the entropy where it is seen best, and the log of its probability averaged by
    where the token looks (Eq. 5); NaN where no position shows a picture. The logit lens over the picture: arXiv
    2410.02762.
    """
    lens = trace.lens  # [lens layers, positions, N]
    if not lens.shape[1]:  # No position shows a picture.
        return torch.full((lens.shape[2], len(lens) * (_TOP + len(_LEVELS) + 2)), torch.nan)
    best = lens.topk(min(_TOP, lens.shape[1]), dim=1)
    largest = functional.pad(best.values, (0, 0, 0, _TOP - best.values.shape[1]), value=_NOWHERE)
    seen = torch.stack([(lens.exp() > level).sum(dim=1) for level in _LEVELS], dim=1)
    entropy = trace.lens_entropy.gather(1, best.indices[:, 0])[:, None]
    looks = trace.rows[:, trace.lens_positions.to(trace.rows.device)].to(lens)
    looks = looks / looks.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(looks.dtype).tiny)
    focused = torch.einsum("ni,lin->ln", looks, lens.exp()).clamp_min(math.exp(_NOWHERE)).log()[:, None]
    return torch.cat([largest, seen, entropy, focused], dim=1).permute(2, 0, 1).flatten(1)


def _summaries(trace: AnswerTrace) -> Floats:
    return np.stack([_plain(column) for column in compute(trace, SUMMARIES).values()], axis=1)


def _plain(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


_CERTAIN = 8.0


def verification_rows(verified: Sequence[float | None], pictures: int) -> Floats:
    """``[claims, 3]``: log-odds of the verified probability, whether there is one, log of the number of pictures.

    The log-odds are NaN where there is none. Of several pictures, a claim is verified on the one it fits best.
    """
    known = np.array([np.nan if value is None else value for value in verified], dtype=np.float64)
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(known) - np.log1p(-known), -_CERTAIN, _CERTAIN)
    several = np.full(len(known), math.log(max(1, pictures)))
    return np.stack([odds, np.isfinite(known).astype(np.float64), several], axis=1)


def recognised_rows(domain: Floats, claims: int) -> Floats:
    """``[claims, RECOGNISED_SIZE]``: recognition and change, see `saliency_guard.domain_features`; NaN if not known.

    Of several pictures their mean.

    Args:
        domain: ``[pictures, k]``, without rows where it is not known.
        claims: how many there are.
    """
    known = domain[:, -RECOGNISED_SIZE:].mean(axis=0) if domain.size else np.full(RECOGNISED_SIZE, np.nan)
    return np.tile(known, (claims, 1))


GROUPS: MappingProxyType[str, Callable[[AnswerTrace], Floats]] = MappingProxyType(
    {
        "signals": _summaries,
        "saliency": lambda trace: np.concatenate(
            [logs(_plain(trace.saliency.flatten(1))), signed_logs(_plain(trace.signed.flatten(1)))], axis=1
        ),
        "attention": lambda trace: logs(_plain(trace.attention.flatten(1))),
        "evidence": lambda trace: _plain(lens_evidence(trace)),
    }
)
"""Groups by name: the summary signals; attention x gradient, plain and with its sign, and plain attention, by layer,
head and source; and what the logit lens finds of the word in the picture, layer by layer."""

FEATURE_SETS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "signals": ("signals",),
        "verified": ("signals", VERIFICATION),
        "recognised": ("signals", VERIFICATION, RECOGNISED),
        "evidence": ("signals", VERIFICATION, "evidence"),
        "all": ("signals", VERIFICATION, "evidence", "saliency", "attention"),
    }
)
"""What a calibration may choose from, the cheapest first; all begin with the summary signals."""


def features(trace: AnswerTrace, groups: Iterable[str]) -> dict[str, Floats]:
    """``[N, k]`` of each group that a trace has; NaN where a signal says nothing."""
    return {name: GROUPS[name](trace) for name in groups if name in GROUPS}
