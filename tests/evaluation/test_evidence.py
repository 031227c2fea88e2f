"""Results as sections of a page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from saliency_guard import LVLM, InputError, LocoREConfig, SGRSConfig
from saliency_guard.evaluation.evidence import mitigation_section, replace_section, table
from saliency_guard.evaluation.mitigation import Guard, compare
from saliency_guard.evaluation.world import pictures
from saliency_guard.evaluation.world_pope import AnswersResult

GUARDS = {"nothing": Guard(), "both": Guard(sgrs=SGRSConfig(alpha=0.9), locore=LocoREConfig(beta=0.5))}


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("top\n<!-- begin a -->\nold\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\n")
    replace_section(page, "a", "new")
    replace_section(page, "a", "newer")
    assert page.read_text() == (
        "top\n<!-- begin a -->\n\nnewer\n\n<!-- end a -->\nmiddle\n<!-- begin b -->\n<!-- end b -->\n"
    )
    with pytest.raises(InputError, match="no section 'c'"):
        replace_section(page, "c", "x")
    with pytest.raises(InputError, match="cannot read"):
        replace_section(tmp_path / "missing.md", "a", "x")


def test_tables_are_markdown(lvlm: LVLM) -> None:
    assert table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    results, _ = compare(lvlm, list(pictures("development", 2)), GUARDS, sampled=True, max_new_tokens=8)
    answers = [
        AnswersResult(
            guard="nothing", sampled=True, values={"random": {"accuracy": 0.5, "f1": math.nan}}, differences={}
        )
    ]
    text = mitigation_section(
        {"development": results}, results[:1], answers, "the command", model="m", pictures=(2, 2, 1)
    )
    assert "| nothing, sampled |" in text
    assert "the command" in text
    assert "0.500 (nan)" in text
    assert np.isfinite(results[0].values["recall"])
