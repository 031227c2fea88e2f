"""Sprite sheets from icon sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from saliency_guard.scenes import build
from saliency_guard.scenes.sprites import SPRITE_SIZE, load_style
from saliency_guard.scenes.vocabulary import DRAWINGS, EXCLUDED

FIRST, SECOND, *_ = [drawing for drawings in DRAWINGS.values() for drawing in drawings]


def square(colour: str) -> dict[str, str]:
    return {"body": f'<rect width="16" height="16" fill="{colour}"/>'}


ICONS = {
    "icons": {FIRST: square("#f00"), "other": square("#00f"), "unused": square("#0f0")},
    "aliases": {SECOND: {"parent": "other"}},
}


def test_a_drawing_may_have_another_name() -> None:
    picture = build.rasterize(ICONS, SECOND, 16)
    assert picture is not None
    assert picture.size == (16, 16)
    assert picture.getpixel((8, 8)) == (0, 0, 255, 255)
    assert build.rasterize(ICONS, "nothing") is None


def test_a_sheet_is_read_back_as_it_was_drawn(tmp_path: Path) -> None:
    source = tmp_path / "made-up" / "icons.json"
    source.parent.mkdir()
    source.write_text(json.dumps(ICONS))
    assert build.build_style(source, "made-up", tmp_path / "out") == (FIRST, SECOND)
    sprites = load_style("made-up", tmp_path / "out")
    assert list(sprites) == [FIRST, SECOND]  # What is no drawing of the vocabulary is left out.
    assert sprites[FIRST].size == (SPRITE_SIZE, SPRITE_SIZE)
    assert sprites[FIRST].getpixel((64, 64)) == (255, 0, 0, 255)


def test_what_lines_close_in_is_paper_and_the_rest_is_cut_out() -> None:
    ring = '<circle cx="8" cy="8" r="6" fill="none" stroke="#000" stroke-width="2"/>'
    drawing = build.sprite({"icons": {FIRST: {"body": ring}}}, "mdi", FIRST)
    assert drawing is not None
    assert drawing.getpixel((64, 64)) == (255, 255, 255, 255)
    assert drawing.getpixel((64, 16)) == (0, 0, 0, 255)
    alpha = drawing.getchannel("A")
    assert alpha.getpixel((1, 1)) == 0
    plain = build.sprite({"icons": {FIRST: {"body": ring}}}, "noto", FIRST)
    assert plain is not None
    assert plain.getchannel("A").getpixel((64, 64)) == 0


def test_drawings_that_do_not_show_their_class_are_left_out(tmp_path: Path) -> None:
    style, drawing = min(EXCLUDED)
    source = tmp_path / "icons.json"
    source.write_text(json.dumps({"icons": {drawing: square("#f00"), FIRST: square("#f00")}}))
    assert drawing not in build.build_style(source, style, tmp_path / "out")


def test_the_command_writes_sheets_and_a_picture_of_all_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made-up").mkdir()
    (tmp_path / "made-up" / "icons.json").write_text(json.dumps(ICONS))
    page = tmp_path / "page.png"
    arguments = [str(tmp_path), "--styles", "made-up", "--out", str(tmp_path / "out"), "--contact-sheet", str(page)]
    monkeypatch.setattr(sys, "argv", ["build", *arguments])
    build.main()
    assert capsys.readouterr().out == "made-up: 2 drawings\n"
    with Image.open(page) as sheet:
        assert sheet.convert("RGB").getpixel((35, 50)) == (255, 0, 0)  # The first class, under its name.
