"""What is made for the hub, from a local directory as transformers loads it, and the demo without gradio."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, LocoREConfig, SaliencyGuardError, SGRSConfig, sgrs_generate
from saliency_guard.embedded import EMBEDDED_PATH

ROOT = Path(__file__).parent.parent
REPOSITORY = ROOT / "hub" / "sgrs"
LENGTH = 12


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, and a cache of its own for what transformers copies of it once more."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Path(shutil.copytree(REPOSITORY, tmp_path / "sgrs"))


@pytest.fixture
def inputs(lvlm: LVLM, picture: Image.Image) -> dict[str, Any]:
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "Describe the image in detail."}]
    return lvlm.inputs([{"role": "user", "content": content}])


@pytest.mark.parametrize("as_dicts", [False, True])
def test_a_local_repository_generates_what_the_callable_does(
    lvlm: LVLM, inputs: dict[str, Any], repository: Path, *, as_dicts: bool
) -> None:
    settings = {"sgrs": {"alpha": 0.9, "top_k": 3}, "locore": {"beta": 0.3}}
    objects = {"sgrs": SGRSConfig(alpha=0.9, top_k=3), "locore": LocoREConfig(beta=0.3)}
    common = {"max_new_tokens": LENGTH, "do_sample": False, "return_dict_in_generate": True}
    expected = lvlm.model.generate(**inputs, custom_generate=sgrs_generate, **objects, **common)
    given = lvlm.model.generate(
        **inputs,
        custom_generate=str(repository),
        trust_remote_code=True,
        **(settings if as_dicts else objects),
        **common,
    )
    assert given.sequences.tolist() == expected.sequences.tolist()
    assert torch.equal(given.saliency, expected.saliency) or torch.allclose(
        given.saliency, expected.saliency, equal_nan=True
    )
    assert any(token.rejected for token in given.tokens)


def test_without_sgrs_it_is_plain_greedy_decoding(lvlm: LVLM, inputs: dict[str, Any], repository: Path) -> None:
    common = {"max_new_tokens": LENGTH, "do_sample": False}
    given = lvlm.model.generate(**inputs, custom_generate=str(repository), trust_remote_code=True, sgrs=None, **common)
    assert given.tolist() == lvlm.model.generate(**inputs, **common).tolist()


def test_its_code_is_not_run_without_being_asked(lvlm: LVLM, inputs: dict[str, Any], repository: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        lvlm.model.generate(**inputs, custom_generate=str(repository), trust_remote_code=False, max_new_tokens=2)


def test_a_model_with_the_loop_beside_it_uses_it(inputs: dict[str, Any], repository: Path) -> None:
    from transformers import AutoModelForImageTextToText

    for path in EMBEDDED_PATH.iterdir():
        (repository / path.name).exists() or (repository / path.name).symlink_to(path)
    model = AutoModelForImageTextToText.from_pretrained(repository, trust_remote_code=True, dtype=torch.float32)
    output = model.generate(**inputs, sgrs=None, max_new_tokens=4, do_sample=False, return_dict_in_generate=True)
    assert output.saliency.shape == (1, 4)


def test_requirements_name_our_package() -> None:
    for folder in ("sgrs/custom_generate", "space"):
        assert "saliency-guard" in (ROOT / "hub" / folder / "requirements.txt").read_text().split()


@pytest.fixture(scope="module")
def app() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "hub" / "space" / "app.py"))


def test_the_demo_answers(app: dict[str, Any]) -> None:
    desk = Image.open(ROOT / "examples" / "desk.png")
    text, known, rows = app["ask"](desk, "")
    assert text.startswith("In the image, there is a cup")
    assert known == "All of it is true with probability 0.96."
    assert rows[0] == ["cup", "object", "0.99", "1.00"]
    assert len(rows[0]) == len(app["HEADER"])


def test_the_demo_judges_and_says_why_not(app: dict[str, Any]) -> None:
    text, known, rows = app["ask"](Image.open(ROOT / "examples" / "desk.png"), "What is there?", "There is a zebra.")
    assert text == "There is a zebra."
    assert float(rows[0][2]) < 0.1
    _, known, rows = app["ask"](Image.new("L", (64, 64)), "What is there?", "There is a zebra.")
    assert known.startswith("No number: the picture is unlike")
    assert rows[0][2] == ""
    assert app["ask"](None, "What is there?") == ("", "Upload a picture first.", [])


def test_an_error_is_a_sentence_on_the_page(app: dict[str, Any]) -> None:
    text, known, rows = app["ask"](Image.new("RGB", (64, 64)), "What is there?", "<s>" * 5000)
    assert text == ""
    assert known
    assert rows == []


def test_without_gradio_the_demo_says_what_to_install(app: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app["demo"].__globals__, "find_spec", lambda _: None)
    with pytest.raises(SaliencyGuardError, match="pip install gradio"):
        app["demo"]()
