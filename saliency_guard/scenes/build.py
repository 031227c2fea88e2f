"""Build the sprite sheets from icon sets: ``python -m saliency_guard.scenes.build ICONS_DIR``.

The sheets in ``sprites/`` were made by this script from the ``icons.json`` files of the npm packages
``@iconify-json/*``; it is needed only to add a style, or to check the labels on a contact sheet.
Needs the extra ``sprites`` (resvg_py). Example::

    npm install @iconify-json/noto@1.2.9
    python -m saliency_guard.scenes.build node_modules/@iconify-json --styles noto
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw, ImageOps

from saliency_guard.scenes.slugs import slugs
from saliency_guard.scenes.sprites import LINE_STYLES, OTHER_STYLES, SPRITE_SIZE, STYLES, load_style, style_files
from saliency_guard.scenes.svg import svg_picture
from saliency_guard.scenes.vocabulary import DRAWINGS, EXCLUDED

_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="{left} {top} {width} {height}" width="{size}" height="{size}">{body}</svg>'
)


def rasterize(icons: dict[str, Any], slug: str, size: int = SPRITE_SIZE) -> Image.Image | None:
    """A drawing of an Iconify set as an RGBA picture of ``size`` x ``size``; None if the set does not have it."""
    aliases = icons.get("aliases", {})
    while slug in aliases:
        slug = aliases[slug]["parent"]
    icon = icons["icons"].get(slug)
    if icon is None:
        return None
    svg = _SVG.format(
        left=icon.get("left", 0),
        top=icon.get("top", 0),
        width=icon.get("width", icons.get("width", 16)),
        height=icon.get("height", icons.get("height", 16)),
        size=size,
        body=icon["body"],
    )
    return svg_picture(svg, size, extra="sprites")


def filled(picture: Image.Image) -> Image.Image:
    """A drawing in black ink on white paper, cut out: what cannot be reached from outside is paper."""
    ink = picture.getchannel("A")
    # A margin, so that the outside is one piece.
    outside = ImageOps.expand(ink.point([255] * 128 + [0] * 128), border=1, fill=255)
    ImageDraw.floodfill(outside, (0, 0), 128)
    inside = ImageOps.crop(outside, border=1).point([0] * 255 + [255])
    grey = ImageChops.multiply(ImageOps.invert(ink), inside)  # Black at the outer edge, where the ink fades out.
    return Image.merge("RGBA", (grey, grey, grey, ImageChops.lighter(ink, inside)))


def sprite(icons: dict[str, Any], style: str, drawing: str) -> Image.Image | None:
    """A style's drawing, under any of the names that it may have there."""
    pictures = (rasterize(icons, slug) for slug in slugs(style, drawing))
    picture = next((picture for picture in pictures if picture is not None), None)
    return filled(picture) if picture is not None and style in LINE_STYLES else picture


def build_style(icons_json: Path, style: str, out: Path) -> tuple[str, ...]:
    """Write ``{style}.webp`` (one row of sprites) and ``{style}.json`` (their names); return the names."""
    icons = json.loads(icons_json.read_text(encoding="utf-8"))
    sprites: dict[str, Image.Image] = {}
    for drawing in (name for names in DRAWINGS.values() for name in names):
        picture = None if (style, drawing) in EXCLUDED else sprite(icons, style, drawing)
        if picture is not None:
            sprites[drawing] = picture
    sheet = Image.new("RGBA", (SPRITE_SIZE * len(sprites), SPRITE_SIZE))
    for index, picture in enumerate(sprites.values()):
        sheet.paste(picture, (SPRITE_SIZE * index, 0))
    picture_file, index_file = style_files(style, out)
    out.mkdir(parents=True, exist_ok=True)
    # exact=False drops the invisible colours of fully transparent pixels.
    sheet.save(picture_file, lossless=True, quality=100, method=6, exact=False)
    index_file.write_text(json.dumps(list(sprites), indent=0) + "\n", encoding="utf-8")
    return tuple(sprites)


def contact_sheet(out: Path, directory: Path, styles: tuple[str, ...], columns: int = 21) -> None:
    """Draw every sprite under its class name, one row per style, so that a person can check the labels."""
    cells = [(name, drawing) for name, drawings in DRAWINGS.items() for drawing in drawings]
    cell, label = 70, 16
    bands = -(-len(cells) // columns)
    band_height = label + cell * len(styles)
    page = Image.new("RGB", (cell * columns, band_height * bands), "white")
    draw = ImageDraw.Draw(page)
    for index, (name, drawing) in enumerate(cells):
        x, y = cell * (index % columns), band_height * (index // columns)
        draw.text((x + 2, y), name[:11], fill="black")
        for row, style in enumerate(styles):
            sprite = load_style(style, directory).get(drawing)
            if sprite is not None:
                thumb = sprite.resize((cell - 6, cell - 6))
                page.paste(thumb, (x + 3, y + label + cell * row), thumb)
    page.save(out)


def main() -> None:
    """Parse the command line and build the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("icons", type=Path, help="folder with {style}/icons.json")
    parser.add_argument("--styles", nargs="+", default=[*STYLES, *OTHER_STYLES])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "sprites")
    parser.add_argument("--contact-sheet", type=Path, help="also write a picture of all labels here")
    arguments = parser.parse_args()
    for style in arguments.styles:
        names = build_style(arguments.icons / style / "icons.json", style, arguments.out)
        print(f"{style}: {len(names)} drawings")
    if arguments.contact_sheet:
        contact_sheet(arguments.contact_sheet, arguments.out, tuple(arguments.styles))


if __name__ == "__main__":
    main()
