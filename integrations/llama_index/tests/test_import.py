"""The wheel, installed beside llama-index-core and what it needs, and nothing else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Collection, Iterator
from importlib.metadata import Distribution, distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import llama_index.llms.saliency_guard
import saliency_guard.adapters

ROOT = Path(__file__).parents[3]
SOURCES = Path(str(llama_index.llms.saliency_guard.__file__)).parent
CHECK = """
import sys
from llama_index.core.llms import LLM
from llama_index.llms.saliency_guard import SaliencyGuardedLVLM, GroundedQueryEngine, GroundingEvaluator
import llama_index.llms.saliency_guard as own, llama_index.core as core, saliency_guard
assert issubclass(SaliencyGuardedLVLM, LLM)
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
blocks = [ImageBlock(path=sys.argv[1]), TextBlock(text="Is there a cup in the image?")]
print(SaliencyGuardedLVLM().chat([ChatMessage(role="user", blocks=blocks)]).message.content)
print(own.__file__, saliency_guard.__file__, sep="\\n")
assert not any(name.split(".")[0].startswith("langchain") for name in sys.modules)
"""


def test_version_is_that_of_the_distribution() -> None:
    assert llama_index.llms.saliency_guard.__version__ == version("llama-index-llms-saliency-guard")


def test_no_init_stands_in_the_namespaces() -> None:
    own = ROOT / "integrations" / "llama_index" / "llama_index"
    assert not (own / "__init__.py").exists()
    assert not (own / "llms" / "__init__.py").exists()


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


def needed(name: str, extras: Collection[str], found: set[tuple[str, str]]) -> Iterator[Distribution]:
    """A distribution and all that it requires, with its extras."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    for extra in {"", *extras}:
        if (key, extra) not in found:
            found.add((key, extra))
            own = distribution(name)
            yield own
            for line in own.requires or ():
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                    yield from needed(requirement.name, requirement.extras, found)


def wheel(folder: Path, to: Path) -> Path:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(to), str(folder)], check=True, capture_output=True)
    return next(to.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment: our two wheels, and links to the files of what they say they need."""
    place = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    packages = next(place.glob("lib/python*/site-packages"))
    ours = {"llama-index-llms-saliency-guard": ROOT / "integrations" / "llama_index", "saliency-guard": ROOT}
    for item in needed("llama-index-llms-saliency-guard", (), set()):
        if re.sub(r"[-_.]+", "-", item.name).lower() in ours:
            continue
        for file in item.files or ():
            target = packages / file
            if ".." not in file.parts and Path(file.locate()).is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(file.locate())
    for name, folder in ours.items():
        with zipfile.ZipFile(wheel(folder, place / name)) as archive:
            archive.extractall(packages)
    return place


def test_the_wheel_works_beside_the_core_alone(environment: Path, tmp_path: Path) -> None:
    command = [str(environment / "bin" / "python"), "-I", "-c", CHECK, str(ROOT / "examples" / "desk.png")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said, *files = done.stdout.splitlines()
    assert "cup" in said
    assert all(Path(file).is_relative_to(environment) for file in files)
    names = {path.name.split("-")[0] for path in environment.glob("lib/python*/site-packages/*.dist-info")}
    assert {name for name in names if name.startswith("llama_index")} == {
        "llama_index_core",
        "llama_index_instrumentation",
        "llama_index_llms_saliency_guard",
        "llama_index_workflows",
    }


def test_every_public_module_has_a_test_file() -> None:
    modules = [path.name for path in SOURCES.glob("*.py") if not path.name.startswith("_")]
    assert len(modules) > 4
    assert [name for name in modules if not (Path(__file__).parent / f"test_{name}").is_file()] == []
