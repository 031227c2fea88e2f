"""What the site shows beside the pages of docs/: notebooks, and documents that stand elsewhere in the repository."""

from __future__ import annotations

import html
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
ELSEWHERE = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "saliency_guard/embedded/model/README.md": "embedded-model.md",
}
"""Documents of the repository, and the pages of the site that they are."""
_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for path, page in ELSEWHERE.items():
        text = _FRONT_MATTER.sub("", (ROOT / path).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        text = notebook_page(json.loads(path.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links are those of the repository; what they lead to has another place in the site."""
    shown = page.file.src_uri
    places = {page: path for path, page in ELSEWHERE.items()}
    here = posixpath.dirname(places.get(shown, f"docs/{shown}"))

    def led(match: re.Match[str]) -> str:
        target = place_of(posixpath.normpath(posixpath.join(here, match[1])))
        return match[0] if target is None else f"]({posixpath.relpath(target, posixpath.dirname(shown) or '.')}"

    return _LINK.sub(led, markdown)


def place_of(path: str) -> str | None:
    """Where the site has a file of the repository; None where it has not."""
    if path.startswith("docs/notebooks/"):
        path = f"{path.removesuffix('.ipynb')}.md"
    return ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown: its texts, its code, and what each cell shows."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```")
            parts += [shown for output in cell["outputs"] if (shown := _shown(output))]
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _text("".join(output["text"]))
    if output["output_type"] == "error":
        return _text("\n".join(output["traceback"]))
    data = output.get("data", {})
    if "text/html" in data:
        content = "".join(data["text/html"])
        if not content.startswith("<iframe"):  # A document of its own: its styles do not reach the page.
            content = f'<iframe title="Output" srcdoc="{html.escape(content, quote=True)}" loading="lazy"></iframe>'
        return content.replace("\n", "&#10;")  # One line, so that Markdown takes it as it is.
    if "image/png" in data:
        return f'<img alt="Output" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    return _text("".join(data.get("text/plain", "")))


def _text(text: str) -> str:
    return f"```text\n{_ESCAPES.sub('', text).rstrip()}\n```" if text.strip() else ""
