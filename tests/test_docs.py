"""Every Python example in the documents runs."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify, unique

import saliency_guard

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(
    r"(<!-- not executed:[^\n]*-->\n)?```python\n(.*?)```"
    r"(?:\n+(?:[^\n`]+\n+)?```text\n(.*?)```)?",  # what it prints, perhaps behind one line of text
    re.DOTALL,
)
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
INTEGRATIONS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("integrations/*/README.md"))
DOCUMENTS = [
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    *INTEGRATIONS,
]
HUB = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("hub/*/README.md"))
LINKING = [*DOCUMENTS, *HUB, "CHANGELOG.md", "CONTRIBUTING.md", "saliency_guard/embedded/model/README.md"]


@pytest.fixture(autouse=True)
def own_event_loop() -> Iterator[None]:
    """LlamaIndex makes an event loop where a thread has none, and never closes it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_run(
    document: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if document in INTEGRATIONS:  # Read outside of the repository, with a picture of the reader's own.
        shutil.copy(ROOT / "examples" / "desk.png", tmp_path / "photo.png")
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.chdir(ROOT)
    text = (ROOT / document).read_text(encoding="utf-8")
    scope: dict[str, object] = {}
    blocks = _BLOCK.findall(text)
    printed = []
    for skipped, code, expected in blocks:
        if not skipped:
            exec(compile(code, document, "exec"), scope)  # noqa: S102 - our own documents
            printed.append(capsys.readouterr().out)
            assert printed[-1].strip() == expected.strip() or not expected
    executed = sum(not skipped for skipped, _, _ in blocks)
    out = "".join(printed)
    if document == "README.md":
        assert executed >= 3
        assert "image_0" in out
    if document in INTEGRATIONS:
        assert executed >= 1
        assert "accepted" in out


def links_of(document: str) -> Iterator[tuple[Path, str]]:
    """What a document links to in this repository: the file and the heading in it, which may be empty."""
    text = _FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    for target, heading in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", text):
        yield (ROOT / document).parent.joinpath(target).resolve() if target else ROOT / document, heading


def headings_of(path: Path) -> set[str]:
    """The anchors of a document's headings."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    known: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        unique(slugify(re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", title), "-"), known)
    return known


def test_links_lead_somewhere() -> None:
    links = [(document, *link) for document in LINKING for link in links_of(document)]
    assert len(links) > 100
    assert [(document, str(path)) for document, path, _ in links if not path.exists()] == []
    to_headings = [(document, path, heading) for document, path, heading in links if heading]
    assert len(to_headings) > 30
    assert [link for link in to_headings if link[2] not in headings_of(link[1])] == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(  # noqa: S603 - our own documents
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stderr
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    for name in set(saliency_guard.__all__) - {"__version__"}:
        assert f'id="saliency_guard.{name}"' in reference or f'id="{name}"' in reference, name
    fetched = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?:[^"]+)"', home)
    assert fetched == []  # Nothing but what the reader clicks leaves the page.
    assert "GroundedAnswer" in reference
    assert "Measured" in (tmp_path / "site" / "comparison.html").read_text(encoding="utf-8")
    assert (tmp_path / "site" / "notebooks" / "first-look.html").is_file()


def test_paths_that_documents_name_exist() -> None:
    named = [
        (document, path)
        for document in DOCUMENTS
        for path in re.findall(
            r"`((?:docs|tests|saliency_guard|examples)/[^`\s]+)`", (ROOT / document).read_text(encoding="utf-8")
        )
    ]
    assert len(named) > 5
    assert [(document, path) for document, path in named if not (ROOT / path).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert len(pages) > 5
    assert {page for page in pages if f"({page})" not in index} == set()


def test_every_example_is_named_in_a_document() -> None:
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert len(examples) > 5
    assert {example for example in examples if example not in text} == set()


def test_the_demo_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {"__name__": "demo", "__file__": str(ROOT / "examples" / "demo.py")}
    exec(compile((ROOT / "examples" / "demo.py").read_text(), "demo.py", "exec"), scope)  # noqa: S102
    scope["main"]()
    out = capsys.readouterr().out
    for part in ("What the answer rests on", "Rejected by SGRS", "a wrong answer scored", "Side by side"):
        assert part in out


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("l*_*.py")))
def test_integration_examples_run(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    scope = runpy.run_path(str(ROOT / "examples" / example))
    scope["main"]()
    out = capsys.readouterr().out
    wanted = {
        "langchain_agent.py": "(fallback)",
        "langchain_guard.py": "fallback)",
        "langchain_rag.py": "rests on umbrella.png for umbrella",
        "langchain_stream.py": "Grounded with probability",
        "llama_index_agent.py": "I am not sure what is there.  (fallback after 3 attempt(s))",
        "llama_index_events.py": "retry     attempt 0 refused",
        "llama_index_rag.py": "rests on bird.png (accepted",
        "llama_index_retry.py": "The image shows a dog. (passing: True",
        "llama_index_workflow.py": "at least 1.0: I cannot say for sure. (3 tries)",
    }
    assert wanted[example] in out
