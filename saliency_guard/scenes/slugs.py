"""Names of drawings in icon sets that have other names than emoji sets have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from saliency_guard.scenes.sprites import OTHER_STYLES

SLUGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "fxemoji": {
            "backpack": "schoolsatchel",
            "bullet-train": "highspeedtrainbulletnose",
            "cat": "catside",
            "computer-mouse": "threebuttonmouse",
            "dog": "dogside",
            "ewe": "sheep",
            "keyboard": "wiredkeyboard",
            "locomotive": "steamlocomotive",
            "mantelpiece-clock": "manltepiececlock",
            "mobile-phone": "cellphone",
            "necktie": "tie",
            "pizza": "sliceofpizza",
            "sandwich": "hamburger",
            "scissors": "blackscissors",
            "skis": "skiandskiboot",
        },
        "streamline-emojis": {
            "backpack": "school-backpack",
            "bear": "bear-face",
            "pizza": "pizza-1",
            "sandwich": "hamburger-1",
            "sport-utility-vehicle": "oncoming-taxi",
            "wine-glass": "red-wine-glass",
        },
        "game-icons": {
            "automobile": "city-car",
            "basketball": "basketball-ball",
            "bear": "bear-head",
            "bicycle": "dutch-bike",
            "bird": "hummingbird",
            "birthday-cake": "cake-slice",
            "bottle-with-popping-cork": "beer-bottle",
            "chair": "wooden-chair",
            "closed-book": "white-book",
            "couch-and-lamp": "sofa",
            "delivery-truck": "truck",
            "dog": "sitting-dog",
            "doughnut": "donut",
            "ewe": "sheep",
            "horse": "horse-head",
            "hot-beverage": "coffee-cup",
            "locomotive": "steam-locomotive",
            "luggage": "suitcase",
            "mobile-phone": "smartphone",
            "necktie": "tie",
            "pizza": "full-pizza",
            "red-apple": "shiny-apple",
            "speedboat": "speed-boat",
            "sport-utility-vehicle": "jeep",
            "teacup-without-handle": "coffee-mug",
            "television": "tv",
            "tennis": "tennis-racket",
            "vertical-traffic-light": "traffic-lights-red",
        },
        "mdi": {
            "automobile": "car-hatchback",
            "birthday-cake": "cake-variant",
            "boy": "human-child",
            "closed-book": "book",
            "computer-mouse": "mouse",
            "couch-and-lamp": "sofa",
            "delivery-truck": "truck",
            "ewe": "sheep",
            "handbag": "purse",
            "hot-beverage": "coffee",
            "hot-dog": "food-hot-dog",
            "kitchen-knife": "knife",
            "luggage": "bag-suitcase",
            "mobile-phone": "cellphone",
            "necktie": "tie",
            "open-book": "book-open",
            "red-apple": "food-apple",
            "soccer-ball": "soccer",
            "speedboat": "ferry",
            "spoon": "silverware-spoon",
            "sport-utility-vehicle": "car-estate",
            "teacup-without-handle": "tea",
            "vertical-traffic-light": "traffic-light",
            "wine-glass": "glass-wine",
            "bottle-with-popping-cork": "bottle-wine",
        },
        "ph": {
            "alarm-clock": "alarm",
            "automobile": "car",
            "birthday-cake": "cake",
            "bottle-with-popping-cork": "beer-bottle",
            "closed-book": "book",
            "computer-mouse": "mouse-simple",
            "couch-and-lamp": "couch",
            "delivery-truck": "truck",
            "hot-beverage": "coffee",
            "kitchen-knife": "knife",
            "luggage": "suitcase-rolling",
            "mobile-phone": "device-mobile",
            "motor-boat": "boat",
            "open-book": "book-open",
            "sport-utility-vehicle": "jeep",
            "tangerine": "orange",
            "television": "television-simple",
            "tennis": "racquet",
            "vertical-traffic-light": "traffic-signal",
            "wine-glass": "wine",
        },
    }
)


def slugs(style: str, drawing: str) -> tuple[str, ...]:
    """The names that a style may have for a drawing, best first."""
    if style not in OTHER_STYLES:
        return (drawing,)
    known = SLUGS.get(style, {}).get(drawing, drawing)
    return tuple(dict.fromkeys((known, drawing, drawing.replace("-", ""), f"{drawing}-1")))
