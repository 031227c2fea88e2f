"""From a name to a model and its processor, by transformers' own loaders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    dynamic_module_utils,
)

from saliency_guard.embedded import vision_tower  # noqa: F401 - makes the embedded model's tower known to transformers
from saliency_guard.errors import ConfigError, ModelError, SaliencyGuardError
from saliency_guard.models.declared_size import require_weights
from saliency_guard.models.fork_safety import ForkSafeLock, uninterrupted
from saliency_guard.models.source import Source, check, in_one_line, located

_HUB = ("token", "cache_dir", "local_files_only", "trust_remote_code")


class _Questions:
    """transformers' question on standard input whether to run a folder's code, silenced while a model is loaded.

    It is asked where ``trust_remote_code=False`` gets lost on the way to a part of the processor. With no time to wait
    for an answer transformers refuses instead.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock("loading a model")
        self._silenced = 0
        self._seconds = 0

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """No question inside; several threads may load at once."""
        with self._lock:
            if not self._silenced:
                self._seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
                dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
            self._silenced += 1
        try:
            yield
        finally:
            with self._lock:
                self._silenced -= 1
                if not self._silenced:
                    dynamic_module_utils.TIME_OUT_REMOTE_CODE = self._seconds


_QUESTIONS = _Questions()


def load_pretrained(
    source: str | os.PathLike[str],
    device: str | torch.device | None,
    dtype: str | torch.dtype,
    version: Mapping[str, str | None],
    from_pretrained: Mapping[str, Any],
) -> tuple[PreTrainedModel, Any]:
    """Load a model, in inference mode, and its processor.

    Nothing in a folder or a repository is run or unpickled, unless the caller says so: ``trust_remote_code=False`` and
    ``use_safetensors=True`` are the defaults.

    Args:
        source: a local folder, or a hub id.
        device: where to put it; None is a GPU if there is one, else the CPU.
        dtype: a torch dtype, its name, or ``"auto"``.
        version: ``{"revision": ...}``; None is the newest.
        from_pretrained: further arguments for the model; those about the hub go to the processor, too.

    Raises:
        ConfigError: if there is no such dtype.
        ModelError: if there is no such model, it is no image-text-to-text model, its files cannot be used, or it takes
            code or pickles that nobody has allowed.
    """
    if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        msg = f"dtype must be 'auto', a torch dtype or its name, not {dtype!r}"
        raise ConfigError(msg)
    options = {**from_pretrained}
    trusted = options["trust_remote_code"] = bool(options.get("trust_remote_code"))
    if options.get("use_safetensors") is None:
        options["use_safetensors"] = True
    with opened(source, version, options) as (place, hub), uninterrupted():
        processor = _processor(place, hub)
        if not trusted:
            config = require_pictures(place, hub)
            if place.folder is not None:
                require_weights(config, place.folder / place.subfolder)
        loaded = AutoModelForImageTextToText.from_pretrained(place.location, dtype=dtype, **{**options, **hub})
        if device is not None or "device_map" not in options:
            target = device or ("cuda" if torch.cuda.is_available() else "cpu")
            loaded = loaded.to(target)  # type: ignore[arg-type]
    return loaded.eval(), processor


@contextmanager
def opened(
    source: str | os.PathLike[str],
    version: Mapping[str, str | None],
    options: Mapping[str, Any],
    *,
    weights: bool = True,
) -> Iterator[tuple[Source, dict[str, Any]]]:
    """Where a model is, looked at, and what to tell transformers of the hub; what goes wrong inside is a `ModelError`.

    Args:
        source: a local folder, or a hub id.
        version: ``{"revision": ...}``; None is the newest.
        options: arguments of ``from_pretrained``.
        weights: whether they are going to be read.
    """
    hub = {name: options[name] for name in _HUB if name in options}
    hub.update({name: value for name, value in version.items() if value is not None})
    hub.setdefault("trust_remote_code", False)
    place = located(source, hub, subfolder=options.get("subfolder") or "")
    check(place, weights=weights, pickles=options.get("use_safetensors") is False or "gguf_file" in options)
    try:
        with nullcontext() if hub["trust_remote_code"] else _QUESTIONS.silenced():
            yield place, dict(place.hub)
    except SaliencyGuardError:
        raise
    except Exception as error:
        why = f"; nothing was downloaded, since {place.cache_alone}" if place.cache_alone else ""
        msg = f"cannot load {source!s} as an image-text-to-text model: {in_one_line(error)}{why}"
        raise ModelError(msg) from error


def require_pictures(place: Source, hub: Mapping[str, Any]) -> Any:
    """The config of a model that takes pictures and writes text, and is of transformers' own kinds.

    Raises:
        ModelError: if it is of another kind.
    """
    config = AutoConfig.from_pretrained(place.location, subfolder=place.subfolder, **hub)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        kind = in_one_line(config.model_type or "nameless")
        msg = f"{place.location} is a model of the kind {kind}, which does not answer pictures and text with text"
        raise ModelError(msg)
    return config


def _processor(place: Source, hub: Mapping[str, Any]) -> Any:
    processor = AutoProcessor.from_pretrained(place.location, **hub)
    missing = [part for part in ("tokenizer", "image_processor") if getattr(processor, part, None) is None]
    if missing:
        msg = f"{place.location} has no {missing[0].replace('_', ' ')}: a model needs its processor's files beside it"
        raise ModelError(msg)
    return processor
