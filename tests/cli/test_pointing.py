"""`bench pointing` on six scenes."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import run


def test_bench_pointing_writes_its_page_and_goes_on(tmp_path: Path) -> None:
    page = tmp_path / "evidence.md"
    page.write_text("# Evidence\n<!-- begin pointing -->\n<!-- end pointing -->\nkept\n")
    options = ("--scenes", "6", "--max-new-tokens", "40", "--out", str(tmp_path / "runs"), "--page", str(page))
    run("bench", "pointing", *options)
    text = page.read_text()
    assert text.endswith("kept\n")
    for part in (
        "--scenes 6",
        "| **combined: saliency x word** |",
        "| **chance** |",
        "several pictures, right picture",
    ):
        assert part in text
    kept = sorted((tmp_path / "runs").glob("*.npz"))
    assert {path.name.partition("-6-")[0] for path in kept} >= {"development", "training-styles", "several-pictures"}
    written = [path.stat().st_mtime_ns for path in kept]
    run("bench", "pointing", *options)
    assert [path.stat().st_mtime_ns for path in kept] == written
    result = json.loads((tmp_path / "runs" / "result.json").read_text())
    assert [split["split"] for split in result["splits"]][:2] == ["development", "training styles"]


def test_quick_results_are_not_published(tmp_path: Path) -> None:
    page = tmp_path / "evidence.md"
    page.write_text("<!-- begin pointing -->\n<!-- end pointing -->\n")
    assert "use only one of the two" in run("bench", "pointing", "--quick", "--page", str(page), code=2)
