"""``saliency-guard report``: a page of a picture and a question, of an answer from anywhere, of saved answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

from saliency_guard import LVLM
from saliency_guard.chat.messages import chat

QUESTION = "What is in the image?"
DESK = "examples/desk.png"


def test_a_page_of_a_picture_and_a_question(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert "wrote" in run("report", DESK, QUESTION, "--out", str(out), "--max-new-tokens", "8", "--threshold", "0.8")
    text = out.read_text(encoding="utf-8")
    assert QUESTION in text
    assert '"source":"lens"' in text
    assert '"threshold":0.8' in text


def test_an_answer_from_anywhere_with_what_is_left_of_it(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    run("report", DESK, QUESTION, "--answer", "There is an elephant.", "--repair", "0.5", "--out", str(out))
    text = out.read_text(encoding="utf-8")
    assert "elephant" in text
    assert "1 left out" in text


def test_saved_answers_have_a_page_each(tmp_path: Path, lvlm: LVLM) -> None:
    answers = [
        lvlm.generate(chat(DESK, question), max_new_tokens=12).to_dict() for question in (QUESTION, "Is there a cup?")
    ]
    answers[1]["model_id"] = "a\u2028b"  # An end of line to Python, not to JSON.
    forms = {
        "list": json.dumps(answers),
        "lines": "\n".join(json.dumps(answer, ensure_ascii=False) for answer in answers),
    }
    for name, text in forms.items():
        saved = tmp_path / f"{name}.json"
        saved.write_text(text, encoding="utf-8")
        run("report", "--saved", str(saved), "--out", str(tmp_path / f"{name}.html"))
        assert answers[0]["claims"][0]["text"] in (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert (tmp_path / f"{name}-2.html").is_file()
    single = tmp_path / "single.json"
    single.write_text(json.dumps(answers[0], indent=2), encoding="utf-8")
    run("report", "--saved", str(single), "--out", str(tmp_path / "single.html"))
    assert not (tmp_path / "single-2.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a picture and a question"),
        ((DESK,), "give a picture and a question"),
        ((DESK, QUESTION, "--saved", "x.json"), "either a picture and a question, or --saved"),
        (("--saved", "nowhere.json"), "cannot read answers"),
        (("--saved", "x.json", "--threshold", "0.5", "--repair", "0.5"), "leave out --threshold"),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert message in " ".join(run("report", *arguments, "--out", str(out), code=2).split())
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", '{"text": "a"}', "[1]", '{"text":"a","text":"b"}'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    saved.write_text(text, encoding="utf-8")
    assert "cannot read answers" in " ".join(run("report", "--saved", str(saved), "--out", "page.html", code=2).split())
