"""One model per process and configuration, however many callers ask for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.sharing import CalibratorIn, read_calibrator
from saliency_guard.embedded import EMBEDDED
from saliency_guard.lvlm import LVLM
from saliency_guard.models.fork_safety import ForkSafeLock

_LOADED: dict[str, LVLM] = {}
_LOADING: dict[str, ForkSafeLock] = {}
_GUARD = ForkSafeLock("asking for a shared model")


def shared_lvlm(
    model: str | os.PathLike[str] = EMBEDDED, *, calibrator: CalibratorIn | None = None, **options: Any
) -> LVLM:
    """The process's copy of a model: loaded at the first call, and the same object from then on.

    It may be used from several threads: the core lets one at a time run the model.

    Args:
        model: as for `LVLM.load`.
        calibrator: as for `LVLM.load`; the weights are shared with callers that name another one, or none.
        **options: as for `LVLM.load`; other options are another copy.

    Raises:
        ModelError: as `LVLM.load`; nothing is kept then.
        InputError: if there is no such calibrator.
        CalibrationMismatchError: if it was fitted for another model.
    """
    key = repr((os.fspath(model), sorted(options.items())))
    lvlm = _shared(key, lambda: LVLM.load(model, **options))
    if calibrator is None:
        return lvlm
    # What is loaded here keeps a calibrator object alive, so that no other one has its id.
    place = id(calibrator) if isinstance(calibrator, Calibrator) else os.fspath(calibrator)
    return _shared(repr((key, place)), lambda: lvlm.with_calibrator(read_calibrator(calibrator, options)))


def _shared(key: str, load: Callable[[], LVLM]) -> LVLM:
    """The model of a key, loaded once, however many threads ask for it."""
    with _GUARD:
        if key not in _LOADING:
            _LOADING[key] = ForkSafeLock("loading a shared model")
        loading = _LOADING[key]
    with loading:
        if key not in _LOADED:
            _LOADED[key] = load()
        return _LOADED[key]


def clear_model_cache() -> None:
    """Forget all shared models; existing references stay valid."""
    with _GUARD:
        _LOADED.clear()
