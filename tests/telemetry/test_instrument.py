"""Switched on by one call, and off without a trace."""

from __future__ import annotations

import inspect
import subprocess
import sys

from in_memory_telemetry import Telemetry
from PIL import Image

from saliency_guard import LVLM, GroundedAnswer, GuardPolicy
from saliency_guard.chat.messages import chat
from saliency_guard.telemetry import instrument, uninstrument


def methods() -> dict[str, object]:
    return {
        f"{kind.__name__}.{name}": value
        for kind in (LVLM, GuardPolicy)
        for name, value in vars(kind).items()
        if inspect.isfunction(value)
    }


def test_off_is_as_it_was(telemetry: Telemetry) -> None:
    before = methods()
    instrument(**telemetry.providers)
    instrument(**telemetry.providers)
    assert methods() != before
    uninstrument()
    uninstrument()
    assert methods() == before


def test_every_method_that_gives_answers_has_spans(telemetry: Telemetry) -> None:
    giving = {
        name
        for name, value in inspect.getmembers(LVLM, inspect.isfunction)
        if not name.startswith("_") and ("GroundedAnswer" in _returned(value) or "Step" in _returned(value))
    } - {"explain"}  # It gives back the answer that it was given.
    assert {"generate", "stream", "agenerate", "astream", "score_batch"} <= giving
    before = {name: getattr(LVLM, name) for name in giving}
    instrument(**telemetry.providers)
    assert [name for name in giving if getattr(LVLM, name) is before[name]] == []
    assert inspect.signature(LVLM.generate) == inspect.signature(before["generate"])


def _returned(function: object) -> str:
    return str(inspect.signature(function).return_annotation)  # type: ignore[arg-type]


def test_answers_are_the_same(lvlm: LVLM, picture: Image.Image, telemetry: Telemetry) -> None:
    messages = chat(picture, "Is there a dog in the image?")
    plain = lvlm.generate(messages, max_new_tokens=8)
    instrument(**telemetry.providers)
    observed = lvlm.generate(messages, max_new_tokens=8)
    assert isinstance(observed, GroundedAnswer)
    assert observed == plain


def test_without_opentelemetry_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from saliency_guard.telemetry import instrument\n"
        "from saliency_guard import MissingExtraError\n"
        "try:\n    instrument()\nexcept MissingExtraError as error:\n    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert "pip install 'saliency-guard[otel]'" in out.stdout, out.stderr
