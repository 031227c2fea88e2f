"""SVG to pixels, by resvg (an optional dependency)."""

from __future__ import annotations

import io

from PIL import Image

from saliency_guard.errors import require_extra


def svg_picture(svg: str, size: int, *, extra: str) -> Image.Image:
    """An SVG as an RGBA picture of ``size`` x ``size``.

    Args:
        svg: the source.
        size: side in pixels.
        extra: the extra of saliency-guard that installs the renderer, for the error message.

    Raises:
        MissingExtraError: if resvg_py is not installed.
    """
    require_extra("resvg_py", "resvg_py", extra)
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)
    return Image.open(io.BytesIO(bytes(png)), formats=("PNG",)).convert("RGBA")
