"""Finds the objects that a text mentions, and the tokens that mention them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from saliency_guard.calibration.token_filter import token_at
from saliency_guard.errors import InputError
from saliency_guard.scenes.vocabulary import CLASSES, NEVER_DRAWN, plural
from saliency_guard.storage import read_text

# Everyday names of COCO's classes; a file of synonyms replaces them.
_EVERYDAY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": (
            "man",
            "woman",
            "boy",
            "girl",
            "child",
            "kid",
            "baby",
            "lady",
            "guy",
            "rider",
            "player",
            "skier",
            "surfer",
            "skateboarder",
            "snowboarder",
            "policeman",
        ),
        "bicycle": ("bike",),
        "motorcycle": ("motorbike", "motor bike"),
        "airplane": ("plane", "aeroplane", "jet"),
        "car": ("sedan", "taxi"),
        "boat": ("ship", "sailboat"),
        "cat": ("kitten",),
        "dog": ("puppy",),
        "handbag": ("purse",),
        "couch": ("sofa",),
        "tv": ("television",),
        "cell phone": ("phone", "cellphone", "smartphone", "mobile phone"),
        "donut": ("doughnut",),
        "sports ball": ("ball",),
        "cup": ("mug", "teacup"),
        "dining table": ("table",),
        "refrigerator": ("fridge",),
        "potted plant": ("houseplant", "plant"),
        "wine glass": ("wineglass",),
        "teddy bear": ("teddy",),
        "skis": ("ski",),
        "tennis racket": ("racket", "racquet", "tennis racquet"),
        "hair drier": ("hair dryer", "hairdryer"),
    }
)


@dataclass(frozen=True, slots=True)
class Mention:
    """A mention of an object in a text: its class, and the characters ``start`` to ``stop - 1`` of the mention."""

    name: str
    start: int
    stop: int


class ObjectVocabulary:
    """Names of objects in all the forms a text may use.

    Args:
        forms: form -> class name; longer forms win (``"teddy bear"`` is not a bear).

    Raises:
        InputError: if there are none.
    """

    def __init__(self, forms: Mapping[str, str]) -> None:
        if not forms:
            msg = "a vocabulary needs at least one name"
            raise InputError(msg)
        self._names = {_normalized(form): name for form, name in forms.items()}
        # "hot-dog" and "hot  dog" are hot dogs.
        longest_first = [
            r"[\s-]+".join(map(re.escape, form.split())) for form in sorted(self._names, key=len, reverse=True)
        ]
        # In "a pair of scissors", the mention is "scissors".
        self._pattern = re.compile(rf"\b(?:pairs? of )?(?P<form>{'|'.join(longest_first)})\b", re.IGNORECASE)

    @classmethod
    def world(cls) -> ObjectVocabulary:
        """The picture world's vocabulary: every COCO class in the embedded model's wording, singular and plural."""
        return cls(_forms([*CLASSES, *NEVER_DRAWN], {}))

    @classmethod
    def coco(cls, synonyms: Path | None = None) -> ObjectVocabulary:
        """COCO's classes with everyday synonyms.

        Args:
            synonyms: a file in CHAIR's form, a class per line, comma-separated, its name first; it replaces the
                built-in synonyms.

        Raises:
            InputError: if the file cannot be read, or has no classes.
        """
        if synonyms is None:
            return cls(_forms([*CLASSES, *NEVER_DRAWN], _EVERYDAY))
        lines = read_text(synonyms).splitlines()
        rows = [[word.strip().lower() for word in line.split(",") if word.strip()] for line in lines]
        classes: dict[str, tuple[str, ...]] = {}
        for row in filter(None, rows):
            classes[row[0]] = (*classes.get(row[0], ()), *row[1:])
        return cls(_forms(classes, classes))

    def require(self, classes: Collection[str]) -> None:
        """Check that every class has a name here, because a class without a name would count as never mentioned.

        Raises:
            InputError: if a class has no name.
        """
        unknown = sorted(set(classes) - set(self._names.values()))
        if unknown:
            msg = f"no name is known for {', '.join(unknown)}: add a line for each to the file of synonyms"
            raise InputError(msg)

    def find(self, text: str) -> list[Mention]:
        """The mentions in a text, in order."""
        return [
            Mention(self._names[_normalized(match["form"])], match.start("form"), match.end("form"))
            for match in self._pattern.finditer(text)
        ]


def _normalized(form: str) -> str:
    """The form in lower case, with single spaces for hyphens and line breaks."""
    return " ".join(re.split(r"[\s-]+", form.lower()))


def _forms(names: Iterable[str], synonyms: Mapping[str, Sequence[str]]) -> dict[str, str]:
    forms: dict[str, str] = {}
    for name in names:
        for form in (name, plural(name).removeprefix("pairs of "), *synonyms.get(name, ())):
            for spelling in (form, *_plurals(form)):
                forms.setdefault(spelling, name)
    return forms


def _plurals(form: str) -> Iterator[str]:
    """The possible plurals of a word; those that do not exist do no harm."""
    yield f"{form}s"
    if form.endswith(("s", "x", "z", "ch", "sh")):
        yield f"{form}es"
    if form.endswith("y") and form[-2:-1] not in "aeiou":
        yield f"{form[:-1]}ies"
    if form.endswith("fe"):
        yield f"{form[:-2]}ves"
    for singular, many in (("man", "men"), ("child", "children"), ("person", "people"), ("mouse", "mice")):
        if form.endswith(singular):
            yield form.removesuffix(singular) + many


def first_token(pieces: Sequence[str], mention: Mention) -> int:
    """Index of the first token of a mention, the one that decided for the object.

    Args:
        pieces: the text of every token; together they are the whole text.
        mention: from `ObjectVocabulary.find` on that text.

    Raises:
        InputError: if the text ends before the mention.
    """
    try:
        return token_at(pieces, mention.start)
    except IndexError as error:
        msg = f"the tokens end before character {mention.start}, where {mention.name!r} begins"
        raise InputError(msg) from error
