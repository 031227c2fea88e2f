"""Every module has a test file of its name in the mirrored place, and every test file has its module."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "saliency_guard"
# What concerns no single module: the project, ways to run a model, and the suites that `make test` leaves out.
WHOLE_PROJECT = {
    "test_docs.py",
    "test_hub.py",
    "test_imports.py",
    "test_mirror.py",
    "test_notebooks.py",
    "test_packages.py",
    "models/test_setups.py",
    "batching/test_load.py",
    "server/test_leaks.py",
}
LONG_SUITES = {"browser", "families_matrix", "fuzz", "gpu", "soak", "validity"}


def places_of_tests() -> set[Path]:
    """Where the tests of each module stand; those of a package's own file have the package's name."""
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    return {path.parent / f"test_{path.name}" for path in modules}


def test_every_module_has_a_test_file() -> None:
    places = places_of_tests()
    assert len(places) > 150
    missing = sorted(str(place) for place in places if not (TESTS / place).is_file())
    assert missing == []


def test_every_test_file_has_a_module() -> None:
    files = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    packages = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")}
    known = places_of_tests() | {package / f"test_{package.name}.py" for package in packages}
    strangers = [
        str(file)
        for file in files
        if file not in known and str(file) not in WHOLE_PROJECT and file.parts[0] not in LONG_SUITES
    ]
    assert strangers == []
