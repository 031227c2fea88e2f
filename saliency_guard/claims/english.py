"""Words that the rules of `phrases` know: closed classes of English, and common verbs of captions."""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ONE = frozenset(_split("""a an each every another"""))
DEFINITE = frozenset(_split("""the this that these those its his her their"""))
SEVERAL = frozenset(_split("""any some several many multiple various few both all these those"""))
MEASURES = frozenset(_split("""pair pairs group bunch couple row stack pile slice piece bowl glass cup bottle"""))
# What a caption says about itself; no objects of the picture.
FRAME = frozenset(
    _split(
        """image images picture pictures photo photos photograph photographs scene view foreground
        background left right top bottom center centre middle side sides corner front back part half
        edge answer way lot number total"""
    )
)
SPOTS = frozenset(_split("left right top bottom center centre middle corner"))
PREPOSITIONS = frozenset(
    _split(
        """of in on at to from by with within without into onto over under above below beneath
        underneath near behind beside between before after for as across along around against
        through during towards toward upon off out up down next inside outside like than"""
    )
)
GRAMMAR = frozenset(
    _split(
        """and or but nor so yet while although though because if when where which who whom whose what
        that there here it he she they them him we you i is are was were be been being am has have
        had having do does did can could may might must shall should will would not also too very
        quite rather just only both either neither each other another it's there's isn't aren't
        don't doesn't"""
    )
)
VERBS = frozenset(
    _split(
        """shows show features feature contains contain includes include depicts depict displays
        display sits sit stands stand lies lie rides ride holds hold wears wear looks look appears
        appear seems seem plays play runs run walks walk eats eat carries carry rests rest hangs
        hang watches watch uses use waits wait captures capture consists stretches surrounds fills
        covers flies fly jumps jump leans lean"""
    )
)
NEGATIONS = frozenset(_split("""not never without isn't aren't don't doesn't can't cannot"""))
REPORTING = frozenset(
    _split(
        """shows show showing shown features feature contains contain includes include depicts depict
        displays display see seen visible located positioned placed present find found count appears
        appear yes no only total together there here looking looks like pictured featured this that
        these those it them can also exactly precisely least me"""
    )
)
NUMBER_WORDS = _split(
    """no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
        sixteen seventeen eighteen nineteen twenty"""
)
ORDINALS = _split("""first second third fourth fifth sixth seventh eighth""")
NUMBERS = {word: count for count, word in enumerate(NUMBER_WORDS)}
IRREGULAR_PLURALS = {
    "buses": "bus",
    "children": "child",
    "feet": "foot",
    "geese": "goose",
    "knives": "knife",
    "leaves": "leaf",
    "men": "man",
    "mice": "mouse",
    "people": "person",
    "scissors": "scissors",
    "sheep": "sheep",
    "shelves": "shelf",
    "skis": "skis",
    "teeth": "tooth",
    "wolves": "wolf",
    "women": "woman",
}
