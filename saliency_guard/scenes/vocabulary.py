"""The nouns of the picture world: COCO class names, their forms, and where they are found.

Only classes that the drawn icon sets show unambiguously are here; which drawing stands for which
class was decided by eye on contact sheets (``python -m saliency_guard.scenes.build --contact-sheet``).
"""

from __future__ import annotations

from types import MappingProxyType

# Class name -> names of the drawings that a person would call so, over all icon sets.
DRAWINGS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": ("person", "man", "woman", "boy", "girl"),
        "bicycle": ("bicycle",),
        "car": ("automobile", "sport-utility-vehicle"),
        "motorcycle": ("motorcycle",),
        "airplane": ("airplane",),
        "bus": ("bus",),
        "train": ("locomotive", "train", "bullet-train"),
        "truck": ("delivery-truck", "articulated-lorry"),
        "boat": ("sailboat", "motor-boat", "speedboat"),
        "traffic light": ("vertical-traffic-light",),
        "stop sign": ("stop-sign",),
        "bird": ("bird",),
        "cat": ("cat",),
        "dog": ("dog",),
        "horse": ("horse",),
        "sheep": ("ewe",),
        "cow": ("cow",),
        "elephant": ("elephant",),
        "bear": ("bear",),
        "zebra": ("zebra",),
        "giraffe": ("giraffe",),
        "backpack": ("backpack",),
        "umbrella": ("umbrella",),
        "handbag": ("handbag",),
        "tie": ("necktie",),
        "suitcase": ("luggage",),
        "frisbee": ("flying-disc",),
        "skis": ("skis",),
        "sports ball": ("soccer-ball", "basketball"),
        "kite": ("kite",),
        "skateboard": ("skateboard",),
        "tennis racket": ("tennis",),
        "bottle": ("bottle-with-popping-cork",),
        "wine glass": ("wine-glass",),
        "cup": ("hot-beverage", "teacup-without-handle"),
        "knife": ("kitchen-knife",),
        "spoon": ("spoon",),
        "banana": ("banana",),
        "apple": ("red-apple",),
        "sandwich": ("sandwich",),
        "orange": ("tangerine",),
        "broccoli": ("broccoli",),
        "carrot": ("carrot",),
        "hot dog": ("hot-dog",),
        "pizza": ("pizza",),
        "donut": ("doughnut",),
        "cake": ("birthday-cake",),
        "chair": ("chair",),
        "couch": ("couch-and-lamp",),
        "potted plant": ("potted-plant",),
        "bed": ("bed",),
        "toilet": ("toilet",),
        "tv": ("television",),
        "laptop": ("laptop",),
        "mouse": ("computer-mouse",),
        "keyboard": ("keyboard",),
        "cell phone": ("mobile-phone",),
        "book": ("closed-book", "open-book"),
        "clock": ("alarm-clock", "mantelpiece-clock"),
        "vase": ("amphora",),
        "scissors": ("scissors",),
        "teddy bear": ("teddy-bear",),
        "toothbrush": ("toothbrush",),
    }
)

# (style, drawing) pairs that show something else than their name says, or something more: a ball for
# a racket, a hoop beside the ball, a desktop computer, a rider or a crew that nobody would leave out.
EXCLUDED: frozenset[tuple[str, str]] = frozenset(
    {
        ("twemoji", "tennis"),
        ("openmoji", "tennis"),
        ("noto-v1", "basketball"),
        ("emojione", "basketball"),
        ("noto-v1", "laptop"),
        ("emojione", "motorcycle"),
        ("emojione", "speedboat"),
        ("noto-v1", "speedboat"),
        ("emojione-monotone", "basketball"),
        ("emojione-monotone", "motorcycle"),
        ("emojione-monotone", "speedboat"),
        ("game-icons", "tangerine"),
        ("mdi", "bed"),
        ("streamline-emojis", "bottle-with-popping-cork"),
        ("streamline-emojis", "tennis"),
    }
)

CLASSES: tuple[str, ...] = tuple(DRAWINGS)

# COCO's other class names: no scene ever shows one, so the right answer about them is always no.
NEVER_DRAWN: tuple[str, ...] = (
    "fire hydrant",
    "parking meter",
    "bench",
    "snowboard",
    "baseball bat",
    "baseball glove",
    "surfboard",
    "fork",
    "bowl",
    "dining table",
    "remote",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "hair drier",
)

# Scene type -> what is usually found there. This is the language prior of the world: likely
# companions that are sometimes absent are what a model that does not look will name anyway.
SCENE_TYPES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "kitchen": (
            "cup", "knife", "spoon", "bottle", "wine glass", "apple", "banana", "orange", "broccoli",
            "carrot", "pizza", "sandwich", "cake", "clock", "potted plant", "chair",
        ),
        "street": (
            "car", "bus", "truck", "bicycle", "motorcycle", "traffic light", "stop sign", "person",
            "dog", "umbrella", "handbag", "backpack",
        ),
        "farm": ("cow", "sheep", "horse", "dog", "cat", "bird", "truck", "person", "apple", "carrot"),
        "savanna": ("elephant", "zebra", "giraffe", "bird", "bear", "person", "car", "airplane"),
        "desk": (
            "laptop", "keyboard", "mouse", "cell phone", "book", "cup", "scissors", "clock",
            "potted plant", "bottle", "apple",
        ),
        "living room": (
            "couch", "tv", "chair", "cat", "dog", "potted plant", "vase", "clock", "book",
            "teddy bear", "wine glass", "person",
        ),
        "bedroom": (
            "bed", "teddy bear", "clock", "book", "cat", "cell phone", "tie", "handbag", "laptop",
            "chair", "vase",
        ),
        "bathroom": ("toilet", "toothbrush", "scissors", "bottle", "potted plant", "cup", "vase", "clock"),
        "park": (
            "person", "dog", "kite", "frisbee", "bird", "bicycle", "skateboard", "sports ball",
            "umbrella", "sandwich", "tennis racket", "backpack",
        ),
        "harbor": ("boat", "bird", "person", "truck", "umbrella", "bicycle", "suitcase", "dog"),
        "airport": ("airplane", "suitcase", "backpack", "person", "bus", "handbag", "cell phone", "tie"),
        "station": ("train", "suitcase", "person", "clock", "backpack", "bicycle", "book", "bird"),
        "mountain": ("skis", "person", "bear", "backpack", "bird", "dog", "airplane"),
        "cafe": (
            "donut", "cake", "cup", "hot dog", "pizza", "sandwich", "chair", "person", "wine glass",
            "laptop", "spoon", "knife",
        ),
    }
)  # fmt: skip

_IRREGULAR = MappingProxyType(
    {
        "person": "people",
        "sheep": "sheep",
        "skis": "skis",
        "scissors": "scissors",
        "knife": "knives",
        "mouse": "mice",
        "couch": "couches",
        "bench": "benches",
        "wine glass": "wine glasses",
        "toothbrush": "toothbrushes",
        "sandwich": "sandwiches",
        "bus": "buses",
        "stop sign": "stop signs",
    }
)
# Singular in COCO's list, plural in English: "a pair of scissors", not "a scissors".
_PAIRS = frozenset({"skis", "scissors"})
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def plural(name: str) -> str:
    """The plural of a class name: ``"knife"`` gives ``"knives"``, ``"skis"`` ``"pairs of skis"``."""
    if name in _PAIRS:
        return f"pairs of {name}"
    return _IRREGULAR.get(name) or f"{name}s"


def singular(name: str) -> str:
    """The class name as one countable thing, without article: ``"pair of scissors"``, ``"dog"``."""
    return f"pair of {name}" if name in _PAIRS else name


def with_article(name: str) -> str:
    """The class name with its indefinite article: ``"an apple"``, ``"a pair of skis"``."""
    noun = singular(name)
    return f"{'an' if noun[0] in 'aeio' or noun.startswith('umb') else 'a'} {noun}"


def counted(name: str, count: int) -> str:
    """A number of things in words: ``"a dog"``, ``"two dogs"``, ``"no dog"``."""
    if count == 0:
        return f"no {singular(name)}"
    return with_article(name) if count == 1 else f"{number(count)} {plural(name)}"


def number(count: int) -> str:
    """A small number in words; digits from nine on."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
