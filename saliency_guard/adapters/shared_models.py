"""One model per process and configuration, however many callers ask for it."""

from __future__ import annotations

import os
from typing import Any

from saliency_guard.embedded import EMBEDDED
from saliency_guard.lvlm import LVLM
from saliency_guard.models.fork_safety import ForkSafeLock

_LOADED: dict[str, LVLM] = {}
_LOADING: dict[str, ForkSafeLock] = {}
_GUARD = ForkSafeLock("asking for a shared model")


def shared_lvlm(model: str | os.PathLike[str] = EMBEDDED, **options: Any) -> LVLM:
    """The process's copy of a model: loaded at the first call, and the same object from then on.

    It may be used from several threads: the core lets one at a time run the model.

    Args:
        model: as for `LVLM.load`.
        **options: as for `LVLM.load`; other options are another copy.

    Raises:
        ModelError: as `LVLM.load`; nothing is kept then.
    """
    key = repr((os.fspath(model), sorted(options.items())))
    with _GUARD:
        if key not in _LOADING:
            _LOADING[key] = ForkSafeLock("loading a shared model")
        loading = _LOADING[key]
    with loading:
        if key not in _LOADED:
            _LOADED[key] = LVLM.load(model, **options)
        return _LOADED[key]


def clear_model_cache() -> None:
    """Forget all shared models; existing references stay valid."""
    with _GUARD:
        _LOADED.clear()
