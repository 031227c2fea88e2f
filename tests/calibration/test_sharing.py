"""Calibrations by name: a file, a folder, a repository of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic
import tiny_processors
from PIL import Image

from saliency_guard import LVLM, Calibrator
from saliency_guard.calibration.calibrator import CALIBRATOR_FILE
from saliency_guard.calibration.sharing import read_calibrator
from saliency_guard.chat.messages import chat
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.errors import CalibrationMismatchError, InputError

# One process for all: what they share is made once.
pytestmark = pytest.mark.xdist_group("sharing")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def others() -> Calibrator:
    """A calibration of another model."""
    return Calibrator.fit(synthetic.records(60), features="signals", held_out=0.0)


def cached(cache: Path, calibrator: Calibrator) -> None:
    """A repository of the hub, as the hub's client keeps it."""
    repository = cache / "models--somebody--calibrations"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    calibrator.save(snapshot / CALIBRATOR_FILE)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def test_a_file_a_folder_and_a_calibrator_itself(tmp_path: Path, others: Calibrator) -> None:
    others.save(tmp_path / CALIBRATOR_FILE)
    others.save(tmp_path / "mine.json")
    for place in (tmp_path, str(tmp_path), tmp_path / "mine.json", str(tmp_path / "mine.json"), others):
        assert read_calibrator(place) == others
    assert read_calibrator(None) is None


@pytest.mark.parametrize("name", ["somebody/calibrations", f"somebody/calibrations@{COMMIT}"])
def test_a_repository_of_the_hub(tmp_path: Path, others: Calibrator, name: str) -> None:
    cached(tmp_path, others)
    assert read_calibrator(name, {"cache_dir": tmp_path, "quantization_config": object()}) == others


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "somebody/calibrations",
            "calibrations is neither a folder nor in the local cache, and HF_HUB_OFFLINE",
        ),
        ("missing.json", "missing.json"),
        (Path("missing"), "missing"),
        ("", "a calibrator is a Calibrator"),
        (7, "a calibrator is a Calibrator"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(place: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read_calibrator(place)
    assert "\n" not in str(raised.value)


def test_what_is_no_calibration_is_refused(tmp_path: Path) -> None:
    (tmp_path / CALIBRATOR_FILE).write_text('{"schema_version": 2, "kinds": NaN}')
    with pytest.raises(InputError, match="no calibration"):
        read_calibrator(tmp_path)


def test_a_model_is_loaded_with_a_calibration_by_name(
    tmp_path: Path, lvlm: LVLM, picture: Image.Image, others: Calibrator
) -> None:
    assert lvlm.calibrator is not None
    mine = lvlm.calibrator.model_copy(update={"domain": None})
    mine.save(tmp_path / "mine.json")
    loaded = LVLM.load(calibrator=tmp_path / "mine.json")
    assert loaded.calibrator == mine
    answer = loaded.score(chat(picture, "Is there a cat in the image?"), "No.")
    assert answer.calibrated
    assert answer.grounding is not None
    others.save(tmp_path / "others.json")
    with pytest.raises(CalibrationMismatchError):
        LVLM.load(calibrator=str(tmp_path / "others.json"))


def test_a_model_of_ones_own_takes_one_too(tmp_path: Path, lvlm: LVLM, others: Calibrator) -> None:
    again = LVLM(lvlm.model, lvlm.processor, calibrator=EMBEDDED_PATH)
    assert again.calibrator == lvlm.calibrator
    with pytest.raises(CalibrationMismatchError):
        LVLM(lvlm.model, lvlm.processor, calibrator=others)
    with pytest.raises(InputError, match="cannot read a calibration"):
        tiny_processors.llava(tiny_processors.byte_level(), calibrator="nowhere.json")


@pytest.mark.parametrize("place", ["x" * 5000, "~nobody-of-this-name/calibration.json"])
def test_a_path_that_the_system_refuses_is_an_error_of_ours(place: str) -> None:
    with pytest.raises(InputError, match="there is no calibration at"):
        read_calibrator(place)
