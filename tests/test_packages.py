"""What the three distributions hold and say: built here as they would be published."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import saliency_guard

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "saliency-guard": ROOT,
    "langchain-saliency-guard": ROOT / "integrations" / "langchain",
    "llama-index-llms-saliency-guard": ROOT / "integrations" / "llama_index",
}


@pytest.fixture(scope="module", params=list(FOLDERS))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a distribution, and the folder of its wheel and sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(command, cwd=FOLDERS[request.param], check=True, capture_output=True)  # noqa: S603 - our own build
    return request.param, out


def wheel_and_metadata(out: Path) -> tuple[list[str], Message]:
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        return names, message_from_string(wheel.read(metadata).decode())


def test_licences_are_in_the_wheel_and_in_the_sdist(built: tuple[str, Path]) -> None:
    distribution, out = built
    text = (ROOT / "LICENSE").read_bytes()
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        assert wheel.read(name) == text
        drawings = [name for name in wheel.namelist() if name.endswith("sprites/LICENSES.md")]
        assert bool(drawings) == (distribution == "saliency-guard")
    with tarfile.open(next(out.glob("*.tar.gz"))) as sdist:
        (member,) = (name for name in sdist.getnames() if name.count("/") == 1 and name.endswith("/LICENSE"))
        file = sdist.extractfile(member)
        assert file is not None
        assert file.read() == text


def test_metadata(built: tuple[str, Path]) -> None:
    distribution, out = built
    _, metadata = wheel_and_metadata(out)
    assert metadata["Name"] == distribution
    assert metadata["Version"] == saliency_guard.__version__
    assert metadata["Author"] == "saliency-guard contributors"
    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = metadata.get_all("Classifier") or []
    assert "Programming Language :: Python :: 3.11" in classifiers
    assert "Typing :: Typed" in classifiers
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    core = [
        requirement
        for requirement in requirements
        if requirement.name == "saliency-guard" and requirement.marker is None
    ]
    assert [str(item.specifier) for item in core] == ([] if distribution == "saliency-guard" else ["<0.3,>=0.2"])
    assert all(Version(saliency_guard.__version__) in item.specifier for item in core)


def test_a_wheel_holds_its_package_and_no_tests(built: tuple[str, Path]) -> None:
    distribution, out = built
    names, _ = wheel_and_metadata(out)
    package = {
        "saliency-guard": "saliency_guard/",
        "langchain-saliency-guard": "langchain_saliency_guard/",
        "llama-index-llms-saliency-guard": "llama_index/llms/saliency_guard/",
    }[distribution]
    assert f"{package}py.typed" in names
    assert [name for name in names if not name.startswith(package) and ".dist-info/" not in name] == []


def test_the_sdist_of_the_core_is_the_whole_project(built: tuple[str, Path]) -> None:
    distribution, out = built
    if distribution != "saliency-guard":
        pytest.skip("the core's alone")
    with tarfile.open(next(out.glob("*.tar.gz"))) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames()}
    wanted = {
        "Makefile",
        "CHANGELOG.md",
        "constraints.txt",
        "tests/validity/test_guarantee.py",
        "integrations/langchain/pyproject.toml",
        "saliency_guard/embedded/model/model.safetensors",
    }
    assert wanted <= names


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_the_readme_needs_no_repository_around_it(folder: Path) -> None:
    """Package indexes show it alone: a relative link leads nowhere there. Pictures are left out of what they show."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"(?<!!)\[[^\]]*\]\((?!https?://|#)[^)]*\)", text) == []


def test_the_description_is_the_readme_without_pictures(built: tuple[str, Path]) -> None:
    _, metadata = wheel_and_metadata(built[1])
    description = str(metadata.get_payload())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "```" in description
    assert "![" not in description


def test_the_command_is_the_one_that_says_which_extra_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"saliency-guard": "saliency_guard.cli:main"}
