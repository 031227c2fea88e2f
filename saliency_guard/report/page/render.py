"""The page as text: one file that needs no network and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from saliency_guard import __version__
from saliency_guard.answer_view import PictureView
from saliency_guard.report.page.content import PageContent, script_data, template_values

MAX_NOTEBOOK_BYTES = 1_000_000
"""A notebook keeps every page it shows: above this, layers are left out, then all maps; then pictures are shrunk."""

_SMALL_EDGE = 320

_TITLE = 80


def page(content: PageContent) -> str:
    """A whole HTML document."""
    template, style, script = assets(__package__, "page")
    question = content.view.question or "Grounding of an answer"
    return rendered(
        template,
        style,
        script,
        **template_values(content),
        title=question if len(question) <= _TITLE else question[: _TITLE - 1] + "…",
        version=__version__,
        policy=content_policy([style], [script]),
        data=_markup(script_json(script_data(content))),
    )


def rendered(template: str, style: str, script: str, **values: Any) -> str:
    """A document of ours with its style and script; every other value is escaped."""
    text: str = _template(template).render(style=_markup(style), script=_markup(script), **values)
    return text.encode("utf-8", "replace").decode("utf-8")  # Half a surrogate pair is no text.


def notebook_page(content: PageContent) -> str:
    """The page in a frame of its own, as notebooks show it: it changes nothing around it, and stays small."""
    text = page(content)
    if len(text) > MAX_NOTEBOOK_BYTES:
        maps = tuple(heat for heat in content.view.maps if heat.layer is None)
        text = page(_with_maps(content, maps))
    if len(text) > MAX_NOTEBOOK_BYTES:
        content = _with_maps(content, ())
        text = page(content)
    if len(text) > MAX_NOTEBOOK_BYTES:
        pictures = tuple(_small(picture) for picture in content.view.pictures)
        text = page(replace(content, view=content.view.model_copy(update={"pictures": pictures})))
    return (
        '<iframe title="Grounding of an answer" sandbox="allow-scripts allow-downloads allow-modals" '
        'style="width:100%;height:680px;border:1px solid #8885;border-radius:8px" loading="lazy" '
        f'srcdoc="{html.escape(text, quote=True)}"></iframe>'
    )


def _small(picture: PictureView) -> PictureView:
    from PIL import Image  # noqa: PLC0415 - most pages show pictures as they come

    file = io.BytesIO()
    try:
        with Image.open(io.BytesIO(picture.jpeg)) as image:
            image.thumbnail((_SMALL_EDGE, _SMALL_EDGE))
            image.convert("RGB").save(file, "JPEG", quality=75)
    except OSError:  # No picture: a browser shows none either.
        return picture
    return picture.model_copy(update={"jpeg": file.getvalue()})


def _with_maps(content: PageContent, maps: tuple[Any, ...]) -> PageContent:
    view = content.view.model_copy(update={"maps": maps})
    return replace(content, view=view)


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def own_style_and_script() -> tuple[str, str]:
    """The page's own, which a document that frames it has to allow."""
    _, style, script = assets(__package__, "page")
    return style, script


@cache
def assets(package: str, name: str) -> tuple[str, str, str]:
    """Template, style and script of a document, from the folder ``assets`` of a package."""
    folder = files(package) / "assets"
    template, style, script = (
        (folder / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    return template, style, script


@cache
def _template(text: str) -> Any:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - most who import the package want no page

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)


def _markup(text: str) -> Any:
    from markupsafe import Markup  # noqa: PLC0415 - comes with jinja2

    return Markup(text)  # noqa: S704 - our own files, and JSON that was escaped above


def content_policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Nothing is loaded, and only our own styles and scripts are taken, by their hashes."""
    return (
        f"default-src 'none'; img-src data:; style-src {' '.join(map(_hash, styles))}; "
        f"script-src {' '.join(map(_hash, scripts))}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
