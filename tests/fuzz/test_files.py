"""Settings and files with anything in them: a wrong one is an error of ours, and what is let in gives probabilities.

Long; run with ``make fuzz`` (or ``pytest tests/fuzz``). Hypothesis stops at a fixed number of examples.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from saliency_guard import (
    LVLM,
    CalibrationMismatchError,
    Calibrator,
    ConfigError,
    GuardPolicy,
    InputError,
    LocoREConfig,
    Records,
    RetryPlan,
    SaliencyConfig,
    SaliencyGuardError,
    SGRSConfig,
    SignalRule,
    TokenFilter,
)
from saliency_guard.chat.messages import chat
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.models.vision_features import RECOGNITION
from saliency_guard.settings import Settings

BOUNDED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=200
)
FEW = settings(BOUNDED, max_examples=25)
NUMBERS = st.sampled_from(
    [math.nan, math.inf, -math.inf, -1, -1e-9, 0, -0.0, 1e-320, 1e-30, 0.5, 1, 2, 1e30, 1e308, -1e308, 10**400]
)
ANYTHING = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.lists(NUMBERS, max_size=3),
    st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2),
)


def places(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value, containers included."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, *path, name)


def shape(path: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple(part for part in path if isinstance(part, str))


def spoilt(data: st.DataObject, value: Any) -> Any:
    """A JSON value with one to three of its places changed; a name is drawn before a place in a long list."""
    changed = json.loads(json.dumps(value))
    for _ in range(data.draw(st.integers(1, 3))):
        known = list(places(changed))
        kind = data.draw(st.sampled_from(sorted({shape(path) for path in known})))
        path = data.draw(st.sampled_from([path for path in known if shape(path) == kind]))
        inner = changed
        for part in path[:-1]:
            inner = inner[part]
        match data.draw(st.sampled_from(["change", "drop", "double", "move"])):
            case "change":
                inner[path[-1]] = data.draw(ANYTHING)
            case "drop":
                del inner[path[-1]]
            case "double" if isinstance(inner, list):
                inner.append(inner[path[-1]])
            case "move" if isinstance(inner, list):
                inner.reverse()
        if not list(places(changed)):
            break
    return changed


def load_spoilt(data: st.DataObject, text: str, load: Callable[[Path], Any]) -> Any:
    """What is loaded of a spoilt file; None where it is refused, and any other error is one too many."""
    content = json.dumps(spoilt(data, json.loads(text))).encode()
    cut = data.draw(st.integers(0, len(content)) | st.none())
    noise = data.draw(st.binary(max_size=4) if data.draw(st.booleans()) else st.just(b""))
    if data.draw(st.integers(0, 9)) == 0 and cut is not None:
        content = content[:cut] + noise + content[cut + len(noise) :]
    with TemporaryDirectory() as folder:
        path = Path(folder, "file.json")
        path.write_bytes(content)
        try:
            return load(path)
        except InputError:
            return None


@pytest.fixture(scope="module", params=["embedded", "logistic", "platt", "isotonic"])
def calibration(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        return (EMBEDDED_PATH / "calibrator.json").read_text()
    fitted = Calibrator.fit(synthetic.records(300), method=request.param, features="signals")
    return fitted.model_dump_json()


@BOUNDED
@given(data=st.data())
def test_calibrations(calibration: str, data: st.DataObject) -> None:
    calibrator = load_spoilt(data, calibration, Calibrator.load)
    if calibrator is None:
        return
    first = calibrator.kinds[0]
    rows = np.random.default_rng(0).normal(size=(6, len(first.model.median)))
    rows = rows * [[1], [1e6], [1e38], [0], [np.nan], [-1e38]]
    domain = None
    if calibrator.domain is not None:
        sizes = calibrator.domain.appearance.size, 0 if calibrator.domain.recognition is None else RECOGNITION
        domain = np.zeros((calibrator.pictures[0], sum(sizes)))
    try:
        judged = calibrator.judge([first.kind] * 6, rows, pictures=calibrator.pictures[0], domain=domain)
    except CalibrationMismatchError:  # A domain of another number of features: said, not judged.
        return
    known = [value for value in (judged.answer, *judged.claims, *judged.domain) if value is not None]
    assert all(0.0 <= value <= 1.0 for value in known)


@pytest.fixture(scope="module")
def policy() -> str:
    made_up = Calibrator.fit(synthetic.records(300, first=50_000), features="signals", held_out=0.0)
    made = GuardPolicy.calibrated(synthetic.records(2000, rate=0.1), risk=0.1, calibrator=made_up)
    assert isinstance(made, GuardPolicy)
    return made.model_dump_json()


@BOUNDED
@given(data=st.data())
def test_policies(policy: str, data: st.DataObject) -> None:
    loaded = load_spoilt(data, policy, GuardPolicy.load)
    if loaded is None:
        return
    answer = synthetic.ratios(1.0, 0.5)
    for grounding in (math.nan, math.inf, -1.0):
        spoilt_answer = answer.model_copy(update={"grounding": grounding, "calibrated": True})
        assert loaded.min_grounding is None or loaded.judge(spoilt_answer).refused is not None


@BOUNDED
@given(data=st.data())
def test_records(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "records.jsonl")
        synthetic.records(3).save(path)
        lines = path.read_text().splitlines()
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = json.dumps(spoilt(data, json.loads(lines[at])))
        path.write_text("\n".join(lines))
        try:
            records = Records.load(path)
        except InputError:
            return
        for record in records:
            values = [record.answer.grounding, *(token.grounding for token in record.answer.tokens)]
            assert all(value is None or 0.0 <= value <= 1.0 for value in values)
            try:
                record.features(("signals", "saliency"))
            except InputError:
                continue


KINDS: list[type[Settings]] = [
    SGRSConfig,
    LocoREConfig,
    SaliencyConfig,
    RetryPlan,
    TokenFilter,
    SignalRule,
    GuardPolicy,
]


@pytest.mark.parametrize("kind", KINDS)
@BOUNDED
@given(data=st.data())
def test_settings(kind: type[Settings], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from([*kind.model_fields, "unknown"]), max_size=4, unique=True))
    values = {name: data.draw(ANYTHING) for name in names}
    try:
        made = kind(**values)
    except ConfigError:
        return
    numbers = [value for value in dict(made).values() if isinstance(value, float)]
    assert not any(math.isnan(value) for value in numbers)


@BOUNDED
@given(data=st.data())
def test_options_of_generate(lvlm: LVLM, picture: Image.Image, data: st.DataObject) -> None:
    names = ["temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "signals", "timeout"]
    options = {
        name: data.draw(ANYTHING) for name in data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    }
    try:
        answer = lvlm.with_calibrator(None).generate(chat(picture, "What is it?"), max_new_tokens=2, **options)
    except SaliencyGuardError:
        return
    assert all(math.isfinite(token.logprob) or token.logprob == -math.inf for token in answer.tokens)


FILES = ["config.json", "processor_config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")  # What transformers says of strange files.
@FEW
@given(data=st.data())
def test_folders(name: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as root:
        folder = Path(root, "model")
        shutil.copytree(EMBEDDED_PATH, folder)
        known = json.loads((folder / name).read_text())
        if name == "tokenizer.json":  # Of its tens of thousands of places, those that are not words.
            known = {**known, "model": {**known["model"], "vocab": {}, "merges": []}}
        (folder / name).write_text(json.dumps(spoilt(data, known)))
        try:
            loaded = LVLM.load(folder)
        except SaliencyGuardError:
            return
        try:
            answer = loaded.generate(chat(Image.new("RGB", (32, 32)), "What is it?"), max_new_tokens=2)
        except SaliencyGuardError:
            return
        assert answer.grounding is None or 0.0 <= answer.grounding <= 1.0
