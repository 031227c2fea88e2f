"""A folder is read, never run: code in it and broken files are errors of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import assert_refused_in_one_sentence, change, drop
from PIL import Image
from transformers import Lfm2VlConfig, LlamaConfig

from saliency_guard import LVLM, InputError, ModelError
from saliency_guard.chat.messages import chat
from saliency_guard.cli.describe import describe_model


def code(folder: Path, mark: Path) -> None:
    (folder / "custom.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")


def of_its_own_kind(folder: Path) -> None:
    names = {"AutoConfig": "custom.Config", "AutoModelForImageTextToText": "custom.Model"}
    change(folder, "config.json", model_type="of_its_own", auto_map=names)


def with_a_model_of_its_own(folder: Path) -> None:
    LlamaConfig().save_pretrained(folder)
    change(folder, "config.json", auto_map={"AutoModelForImageTextToText": "custom.Model"})


def with_a_processor_of_its_own(folder: Path) -> None:
    change(folder, "processor_config.json", processor_class="Custom", auto_map={"AutoProcessor": "custom.Processor"})


def with_a_tokenizer_of_its_own(folder: Path) -> None:
    """transformers loses `trust_remote_code=False` on this way, and asks."""
    (folder / "processor_config.json").unlink()
    Lfm2VlConfig().save_pretrained(folder)
    change(folder, "preprocessor_config.json", image_processor_type="CLIPImageProcessor")
    change(folder, "tokenizer_config.json", tokenizer_class="Custom", auto_map={"AutoTokenizer": ["custom.T", None]})
    drop(folder, "tokenizer_config.json", "processor_class")


CODE: list[Callable[[Path], None]] = [
    of_its_own_kind,
    with_a_model_of_its_own,
    with_a_processor_of_its_own,
    with_a_tokenizer_of_its_own,
]


@pytest.mark.parametrize("spoil", CODE)
@pytest.mark.parametrize("said", [{}, {"trust_remote_code": False}, {"trust_remote_code": None}])
def test_code_in_a_folder_is_not_run_and_nobody_is_asked(
    folder: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], said: dict[str, Any]
) -> None:
    asked: list[str] = []

    def answer(question: str = "") -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    code(folder, mark)
    spoil(folder)
    with pytest.raises(ModelError):
        LVLM.load(folder, **said)
    if not said:
        with suppress(ModelError):  # A processor that cannot be read leaves the other facts.
            describe_model(str(folder))
    assert not asked
    assert not mark.exists()


def test_code_is_run_where_the_caller_trusts_it(folder: Path, mark: Path) -> None:
    code(folder, mark)
    of_its_own_kind(folder)
    with pytest.raises(ModelError):  # There is no such class in it.
        LVLM.load(folder, trust_remote_code=True)
    assert mark.exists()


def test_a_folder_that_names_code_but_needs_none_is_loaded_without_it(folder: Path, mark: Path) -> None:
    code(folder, mark)
    change(folder, "config.json", auto_map={"AutoModelForImageTextToText": "custom.Model"})
    assert type(LVLM.load(folder).model).__name__ == "LlavaForConditionalGeneration"
    assert not mark.exists()


def without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def a_broken_tokenizer(folder: Path) -> None:
    change(folder, "tokenizer.json", model={"type": "none"})


def weights_cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def no_weights_at_all(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)


def text_alone(folder: Path) -> None:
    LlamaConfig().save_pretrained(folder)


def a_kind_that_nobody_knows(folder: Path) -> None:
    change(folder, "config.json", model_type="saliency")


def other_types(folder: Path) -> None:
    change(folder, "config.json", text_config=[1, 2])


def another_shape(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder, "config.json", text_config={**text, "hidden_size": 96})


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (without_a_tokenizer, "tokenizer"),
    (a_broken_tokenizer, "cannot load"),
    (weights_cut_short, "cannot load"),
    (no_weights_at_all, "cannot load"),
    (text_alone, "of the kind llama, which does not answer pictures"),
    (a_kind_that_nobody_knows, "saliency"),
    (other_types, "cannot load"),
    (another_shape, "cannot load"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN, ids=[spoil.__name__ for spoil, _ in BROKEN])
def test_a_broken_folder_is_one_sentence(folder: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(folder)
    assert_refused_in_one_sentence(folder, said)


def test_without_a_chat_template_the_first_question_says_so(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    drop(folder, "processor_config.json", "chat_template")
    drop(folder, "tokenizer_config.json", "chat_template")
    with pytest.warns(UserWarning, match="is left out"):  # Its calibration is for another template.
        lvlm = LVLM.load(folder)
    with pytest.raises(ModelError, match="has no chat template"):
        lvlm.generate(chat(Image.new("RGB", (32, 32)), "What is it?"))


def test_a_calibration_in_the_folder_that_is_none_is_named(folder: Path) -> None:
    change(folder, "calibrator.json", groups=["evidence", "attention", "saliency", "signals"])
    with pytest.raises(InputError, match=r"calibrator\.json .*groups"):
        LVLM.load(folder)


def test_a_model_in_a_subfolder(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (folder / name).rename(inner / name)
    assert LVLM.load(folder, subfolder="inner").model.num_parameters() > 0
    (inner / "model.safetensors").rename(inner / "pytorch_model.bin")
    with pytest.raises(ModelError, match="nothing is unpickled here"):
        LVLM.load(folder, subfolder="inner")


def test_weights_are_unpickled_where_the_caller_says_so(folder: Path) -> None:
    weights = LVLM.load(folder).model.state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"nothing is unpickled here"):
        LVLM.load(folder)
    assert LVLM.load(folder, use_safetensors=False).model.num_parameters() > 0
