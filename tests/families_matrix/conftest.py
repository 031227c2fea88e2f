"""Writes what the matrix found into docs/models.md, where all of it ran."""

from __future__ import annotations

from pathlib import Path

import families
import family_checks
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- matrix: written by make families -->", "<!-- end of matrix -->"

_PASSED: dict[tuple[str, str], bool] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    report = yield
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if {"name", "check"} <= parameters.keys() and report.when == "call":
        _PASSED[parameters["name"], parameters["check"]] = report.passed
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    wanted = {(name, check) for name in families.NAMES for check in family_checks.CHECKS}
    if exitstatus == 0 and wanted <= {key for key, passed in _PASSED.items() if passed}:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def table() -> str:
    """A row for each family; where something is refused, the number of the reason below."""
    reasons: list[str] = []
    lines = ["| Family | " + " | ".join(family_checks.CHECKS) + " |", "|---" * (len(family_checks.CHECKS) + 1) + "|"]
    for name, title in families.NAMES.items():
        cells: list[str] = []
        for check in family_checks.CHECKS:
            reason = families.limit(name, check)
            if reason is not None and reason not in reasons:
                reasons.append(reason)
            cells.append("yes" if reason is None else f"no ({reasons.index(reason) + 1})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    notes = [f"{number}. {families.REASONS[reason]}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join([*lines, "", *notes])
