"""Calibrations that are shared: as a file, in a folder, or in a repository of the Hugging Face hub.

What is read is JSON that is checked number by number; nothing in it is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

from transformers import PreTrainedModel

from saliency_guard.calibration.calibrator import CALIBRATOR_FILE, Calibrator
from saliency_guard.calibration.fingerprint import fingerprint
from saliency_guard.errors import InputError, ModelError, shown
from saliency_guard.models.source import located

CalibratorIn = Calibrator | str | os.PathLike[str]
"""A calibration, or where one is: a JSON file, a folder that holds ``calibrator.json``, or a hub id; after an ``@`` may
stand a hub id's branch, tag or commit."""

_LONGEST_MESSAGE = 500
_HUB = frozenset({"token", "cache_dir", "local_files_only"})


@overload
def read_calibrator(place: None, hub: Mapping[str, Any] | None = None) -> None: ...


@overload
def read_calibrator(place: CalibratorIn, hub: Mapping[str, Any] | None = None) -> Calibrator: ...


@overload
def read_calibrator(place: CalibratorIn | None, hub: Mapping[str, Any] | None = None) -> Calibrator | None: ...


def read_calibrator(place: CalibratorIn | None, hub: Mapping[str, Any] | None = None) -> Calibrator | None:
    """A calibration from wherever it is; None where none is named.

    Args:
        place: see `CalibratorIn`.
        hub: arguments of transformers' ``from_pretrained``; ``token``, ``cache_dir`` and ``local_files_only`` are used.

    Raises:
        InputError: if there is none, it cannot be read, or it is no calibration of this version.
    """
    if place is None or isinstance(place, Calibrator):
        return place
    if not isinstance(place, (str, os.PathLike)) or not os.fspath(place):
        msg = f"a calibrator is a Calibrator, a file, a folder or a hub id, not {shown(place)}"
        raise InputError(msg)
    name = os.fspath(place)
    try:
        path = Path(name).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:  # A name too long, a folder that is closed to us, the home of nobody.
        msg = f"there is no calibration at {shown(name)}: {error}"
        raise InputError(msg[:_LONGEST_MESSAGE]) from error
    if is_folder:
        return Calibrator.load(path / CALIBRATOR_FILE)
    if exists or path.suffix == ".json" or not isinstance(place, str):
        return Calibrator.load(path)
    repository, _, revision = name.partition("@")
    options = {key: value for key, value in (hub or {}).items() if key in _HUB}
    if revision:
        options["revision"] = revision
    try:
        stored = located(repository, options, holding=(CALIBRATOR_FILE,)).find(CALIBRATOR_FILE)
    except ModelError as error:
        msg = f"there is no calibration: {error}"
        raise InputError(msg) from error
    if stored is None:
        msg = f"there is no {CALIBRATOR_FILE} in {repository} on the hub"
        raise InputError(msg)
    return Calibrator.load(stored)


def calibrator_beside(model: str | os.PathLike[str]) -> Calibrator | None:
    """The calibration in a model's folder; None where there is none.

    Raises:
        InputError: if the file is no calibration.
    """
    path = Path(model).expanduser() / CALIBRATOR_FILE
    return Calibrator.load(path) if path.is_file() else None


def fits(
    calibrator: Calibrator | None,
    model: PreTrainedModel,
    processor: Any,
    model_id: str,
    *,
    allow_mismatch: bool = False,
) -> bool:
    """Whether there is a calibration, and it was fitted for a model.

    Args:
        calibrator: the calibration.
        model: the model.
        processor: its processor.
        model_id: what it is called.
        allow_mismatch: take one that was fitted for another model, too.

    Raises:
        CalibrationMismatchError: if it was fitted for another model, other weights or another prompt template.
    """
    if calibrator is None:
        return False
    actual = fingerprint(model, processor, model_id, calibrator.fingerprint.saliency)
    if not allow_mismatch:
        calibrator.require(actual)
    return not calibrator.fingerprint.differing(actual)
