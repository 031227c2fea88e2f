"""Detection signals: functions from an `AnswerTrace` to one number per token, ``[N]``.

No signal says which direction is bad: a calibration fits that for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType

from torch import Tensor

from saliency_guard.errors import ConfigError, shown
from saliency_guard.signals.ads import ads
from saliency_guard.signals.cgc import cgc
from saliency_guard.signals.contrast import contrast
from saliency_guard.signals.entropy import entropy
from saliency_guard.signals.focused_lens import focused_lens
from saliency_guard.signals.glsim import glsim
from saliency_guard.signals.image_share import image_share
from saliency_guard.signals.llcc import llcc
from saliency_guard.signals.logit_lens import logit_lens
from saliency_guard.signals.margin import margin
from saliency_guard.signals.nll import nll
from saliency_guard.signals.output_share import output_share
from saliency_guard.signals.pas import pas
from saliency_guard.signals.position import position
from saliency_guard.signals.repetition import repetition
from saliency_guard.signals.saliency import saliency
from saliency_guard.signals.saliency_ratio import saliency_ratio
from saliency_guard.signals.svar import svar
from saliency_guard.signals.trace import AnswerTrace
from saliency_guard.signals.vauq import vauq

Signal = Callable[[AnswerTrace], Tensor]

SIGNALS: MappingProxyType[str, Signal] = MappingProxyType(
    {
        "saliency": saliency,
        "saliency_ratio": saliency_ratio,
        "image_share": image_share,
        "output_share": output_share,
        "nll": nll,
        "entropy": entropy,
        "margin": margin,
        "svar": svar,
        "pas": pas,
        "logit_lens": logit_lens,
        "focused_lens": focused_lens,
        "glsim": glsim,
        "contrast": contrast,
        "llcc": llcc,
        "ads": ads,
        "cgc": cgc,
        "vauq": vauq,
        "position": position,
        "repetition": repetition,
    }
)
"""Every signal by name."""

PRIORS = ("position", "repetition")
"""Signals that use neither the picture nor the model: the baseline that every other signal has to beat."""


def known(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple, after checking them.

    Raises:
        ConfigError: if there is no signal of that name.
    """
    checked = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
    unknown = [name for name in checked if not isinstance(name, str) or name not in SIGNALS]
    if unknown:
        msg = f"no signal is called {shown(unknown[0])}; there are: {', '.join(SIGNALS)}"
        raise ConfigError(msg)
    return checked


def compute(trace: AnswerTrace, names: Iterable[str]) -> dict[str, Tensor]:
    """The signals of a trace by name, ``[N]`` each.

    Raises:
        ConfigError: if there is no signal of that name.
    """
    return {name: SIGNALS[name](trace) for name in known(names)}
