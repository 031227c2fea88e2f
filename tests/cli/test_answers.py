from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from PIL import Image

from saliency_guard import LVLM, LocoREConfig, SaliencyConfig, SGRSConfig
from saliency_guard.chat.messages import chat

QUESTION = "Describe the image in detail."


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, picture: Image.Image) -> str:
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    picture.save(path)
    return str(path)


def test_ask_shows_answer_shares_and_rejections(file: str) -> None:
    out = run("ask", file, QUESTION, "--sgrs", "--alpha", "0.9", "--tokens")
    for part in ("What the answer rests on", "image_0", "output", "Rejected by SGRS", "Token by token", "threshold"):
        assert part in out


def test_ask_gives_json(file: str) -> None:
    answer = json.loads(run("ask", file, QUESTION, "--json", "--max-new-tokens", "7"))
    assert len(answer["tokens"]) == 7
    assert answer["finish_reason"] == "length"
    assert answer["tokens"][0]["saliency"] is None
    assert sum(answer["tokens"][3]["shares"].values()) == pytest.approx(1)


def test_options_reach_the_model(file: str, lvlm: LVLM) -> None:
    def generated(**options: Any) -> dict:
        return json.loads(json.dumps(lvlm.generate(chat(file, QUESTION), **options).to_dict()))

    def ask(*options: str) -> dict:
        return json.loads(run("ask", file, QUESTION, "--json", "--max-new-tokens", "12", *options))

    plain = ask()
    assert [token["threshold"] for token in plain["tokens"]] == [None] * 12
    expected = generated(max_new_tokens=12)
    assert plain == expected
    # Every option changes something, and what it changes is what the model does with it.
    sgrs, locore, strong = SGRSConfig(), LocoREConfig(), LocoREConfig(beta=0.9)
    for options, settings in (
        (("--sgrs", "--locore"), {"sgrs": sgrs, "locore": locore}),
        (("--locore", "--beta", "0.9", "--layers", "0"), {"locore": strong, "saliency": SaliencyConfig(layers=[0])}),
        (("--layers", "0.2,0.6"), {"saliency": SaliencyConfig(layers=(0.2, 0.6))}),
        (("--temperature", "3.0", "--seed", "4"), {"temperature": 3.0, "seed": 4}),
    ):
        expected = generated(max_new_tokens=12, **settings)
        assert ask(*options) == expected
        for setting in settings:
            without = {name: value for name, value in settings.items() if name != setting}
            assert generated(max_new_tokens=12, **without) != expected, setting


def test_a_streamed_answer_ends_like_any_other(file: str) -> None:
    whole = run("ask", file, QUESTION, "--max-new-tokens", "9")
    assert run("ask", file, QUESTION, "--max-new-tokens", "9", "--stream").endswith(whole)
    assert "leave out --stream" in run("ask", file, QUESTION, "--stream", "--json", code=2)


def test_score_shows_an_answer_from_anywhere(file: str) -> None:
    text = "An elephant on a sofa."
    answer = json.loads(run("score", file, QUESTION, text, "--json"))
    assert answer["text"] == text
    assert "What the answer rests on" in run("score", file, QUESTION, text)


def test_info_tells_what_a_model_is(tmp_path: Path) -> None:
    facts = json.loads(run("info", "--json"))
    assert facts["architecture"] == "LlavaForConditionalGeneration"
    assert facts["image_tokens"] == 64
    assert facts["layers"] == 4
    assert facts["target_layers"] == [2, 3]
    assert facts["sgrs"] is True
    table = run("info")
    assert "full attention 4" in table
    assert "memory (GiB)" in table
    assert "{" not in table
    assert "has no config.json" in run("info", str(tmp_path), code=2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sgrs", "--alpha", "1.5"], "alpha"),
        (["--locore", "--beta", "-1"], "beta"),
        (["--alpha", "0.6"], "--alpha has no effect without --sgrs"),
        (["--beta", "0.15"], "--beta has no effect without --locore"),
        (["--layers", "a,b"], "neither two fractions"),
        (["--layers", "77"], "does not name layers"),
        (["--temperature", "-2"], "temperature"),
        (["--model", "./nowhere"], "there is no such folder: ./nowhere"),
        (["--model", "no/such-model-here"], "neither a folder nor in the local cache, and HF_HUB_OFFLINE"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(file: str, options: list[str], complaint: str) -> None:
    out = run("ask", file, QUESTION, *options, code=2)
    assert complaint in " ".join(out.split())
    assert "Traceback" not in out


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("no picture")
    assert "no image in a format" in run("ask", str(note), QUESTION, code=2)
    assert "cannot read an image" in run("ask", str(tmp_path / "gone.png"), QUESTION, code=2)


def test_square_brackets_are_only_text(file: str) -> None:
    assert "[/b]" in run("ask", file, "What is [/b] this?", "--max-new-tokens", "3")
