"""The package's version, and what it imports of the core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import langchain_saliency_guard
import saliency_guard.adapters

SOURCES = Path(str(langchain_saliency_guard.__file__)).parent


def test_version_is_that_of_the_distribution() -> None:
    assert langchain_saliency_guard.__version__ == version("langchain-saliency-guard")


def imported_names(path: Path) -> Iterator[tuple[str, str]]:
    """Every module of saliency-guard that a file imports from, and the name it imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "saliency_guard")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "saliency_guard":
            yield from ((str(node.module), alias.name) for alias in node.names)


def test_only_public_names_of_the_core_are_imported() -> None:
    public = {"saliency_guard": saliency_guard.__all__, "saliency_guard.adapters": saliency_guard.adapters.__all__}
    names = [(path.name, *name) for path in SOURCES.rglob("*.py") for name in imported_names(path)]
    assert names
    assert [name for name in names if name[2] not in public.get(name[1], ())] == []


def test_every_public_module_has_a_test_file() -> None:
    modules = [path.name for path in SOURCES.glob("*.py") if not path.name.startswith("_")]
    assert len(modules) > 4
    assert [name for name in modules if not (Path(__file__).parent / f"test_{name}").is_file()] == []
