"""Photo cut-outs, the hardest style: the stamps of Tux Paint, if Debian's package is installed.

``apt-get install tuxpaint-stamps-default`` puts them into ``/usr/share/tuxpaint/stamps``; the environment variable
``TUXPAINT_STAMPS`` sets another folder. They have many different licences, so none is distributed here. The selection,
checked by hand, has only photographs of a single object that people would name as the class.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from saliency_guard.errors import InputError

NAME = "tuxpaint"
DIRECTORY = Path("/usr/share/tuxpaint/stamps")

STAMPS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": ("people/fireman240a", "people/fireman200b"),
        "car": ("vehicles/auto/beetle", "vehicles/auto/sportscar2", "vehicles/auto/sedan"),
        "airplane": ("vehicles/flight/planes/747", "military/vehicles/f22_raptor"),
        "bus": ("vehicles/masstransit/green_korean_bus",),
        "truck": ("vehicles/auto/truck", "vehicles/garbagetruck", "vehicles/emergency/firetruck"),
        "boat": ("vehicles/ship/walnutBoat", "vehicles/ship/chineseJunk"),
        "traffic light": ("town/roadsigns/stoplight_03_green", "town/roadsigns/stoplight_01_red"),
        "stop sign": ("town/roadsigns/stop",),
        "bird": (
            "animals/birds/crow", "animals/birds/blackbird", "animals/birds/pigeon", "animals/birds/lark",
            "animals/birds/silver-gull", "animals/birds/duck", "animals/birds/magpie",
            "animals/birds/rainbow-lorikeet", "animals/birds/adelaide-rosella",
        ),
        "dog": ("animals/mammals/dogs/dog",),
        "horse": ("animals/mammals/equines/horse",),
        "sheep": ("animals/mammals/bovines/sheep", "animals/mammals/bovines/sheep_lamb"),
        "cow": (
            "animals/mammals/bovines/cow", "animals/mammals/bovines/cow_white", "animals/mammals/bovines/bull",
        ),
        "elephant": ("animals/mammals/elephant",),
        "bear": ("animals/mammals/bears/bear", "animals/mammals/bears/european-bear"),
        "zebra": ("animals/mammals/equines/zebra",),
        "giraffe": ("animals/mammals/giraffe",),
        "sports ball": ("sports/basketball", "sports/soccer", "sports/tennis_ball", "sports/cricketball"),
        "tennis racket": ("sports/tennis_racket",),
        "cup": ("household/dishes/mug",),
        "banana": ("food/fruit/banana",),
        "apple": ("food/fruit/apple_red", "food/fruit/apple_green", "food/fruit/apple_fuji"),
        "orange": ("food/fruit/orange", "food/fruit/mandarine", "food/fruit/orange_seville"),
        "broccoli": ("food/vegetables/broccoli",),
        "carrot": ("food/vegetables/carrot",),
        "toilet": ("household/toilet",),
        "teddy bear": ("animals/mammals/bears/toys/edward_bear",),
        "scissors": ("household/arttools/scissors_small_open", "household/arttools/scissors_small_closed"),
    }
)  # fmt: skip
"""Class name -> stamps."""


def directory() -> Path:
    """The folder of the stamps."""
    return Path(os.environ.get("TUXPAINT_STAMPS", DIRECTORY))


def installed() -> bool:
    """Whether all stamps are installed."""
    return all((directory() / f"{stamp}.png").is_file() for stamps in STAMPS.values() for stamp in stamps)


def load(size: int) -> dict[str, Image.Image]:
    """Every stamp, RGBA, fitted into ``size`` x ``size``.

    Raises:
        InputError: if the stamps are not installed.
    """
    if not installed():
        msg = f"photo cut-outs are missing in {directory()}: install tuxpaint-stamps-default, or set TUXPAINT_STAMPS"
        raise InputError(msg)
    return {stamp: _fitted(directory() / f"{stamp}.png", size) for stamps in STAMPS.values() for stamp in stamps}


def _fitted(path: Path, size: int) -> Image.Image:
    with Image.open(path, formats=("PNG",)) as opened:
        picture = opened.convert("RGBA")
    # Transparent margins are cropped, so that objects are as large as the scene says.
    picture = picture.crop(picture.getchannel("A").getbbox())
    scale = size / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    square = Image.new("RGBA", (size, size))
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square
