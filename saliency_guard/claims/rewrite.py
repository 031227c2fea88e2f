"""An answer without some of its claims: items of lists, places and sentences are left out; the text stays English."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from saliency_guard.claims import phrases
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.claims.phrases import NounPhrase, Sentence

_THERE = re.compile(r"\bthere (?:is|are)\b", re.IGNORECASE)
_LISTING = re.compile(r"\b(?:there (?:is|are)|shows?|contains?|features?|includes?|see|of)\b", re.IGNORECASE)


def with_dependents(claims: Sequence[ExtractedClaim], dropped: Collection[int]) -> set[int]:
    """Claims to leave out, with those that make no sense without them: where a thing is that is not there.

    Args:
        claims: of one answer, in order.
        dropped: indices of those that do not hold.
    """
    gone = {phrases.singular(claims[index].noun) for index in dropped if claims[index].kind == "object"}
    kept = {
        phrases.singular(claim.noun)
        for index, claim in enumerate(claims)
        if claim.kind == "object" and index not in dropped
    }
    gone -= kept
    more = {
        index
        for index, claim in enumerate(claims)
        if claim.kind in {"place", "number"} and {phrases.singular(claim.noun), phrases.singular(claim.other)} & gone
    }
    return set(dropped) | more


def rewritten(text: str, claims: Sequence[ExtractedClaim], dropped: Collection[int]) -> str:
    """The text without some of its claims; empty where nothing is left.

    Args:
        text: the answer.
        claims: all that it makes, in order.
        dropped: indices of those to leave out; what depends on them goes, too.
    """
    gone = with_dependents(claims, dropped)
    parts: list[str] = []
    for sentence in phrases.sentences(text):
        stop = sentence.start + len(sentence.text)
        inside = [index for index, claim in enumerate(claims) if sentence.start <= claim.start < stop]
        missing = [claims[index] for index in inside if index in gone]
        if not missing:
            parts.append(sentence.text.strip())
            continue
        if len(missing) < len(inside):
            changed = _without(sentence, missing)
            if changed:
                parts.append(changed)
    return " ".join(part for part in parts if part)


def _without(sentence: Sentence, missing: Sequence[ExtractedClaim]) -> str:
    """A sentence without some of its claims, but not all; empty where it cannot be said without them."""
    kinds = {claim.kind for claim in missing}
    if kinds & {"statement", "yes_no"} or any(claim.negated for claim in missing):
        return ""
    starts = {claim.start for claim in missing if claim.kind == "object"}
    numbers = {claim.start for claim in missing if claim.kind == "number"}
    places = [(claim.start, claim.stop) for claim in missing if claim.kind == "place"]
    run = sentence.listed
    # Only what stands before the list says that it is one: "to the left of the cup" lists nothing.
    if not run or _LISTING.search(sentence.text[: run[0].start - sentence.start]) is None:
        return ""
    if not all(any(phrase.noun_start == start for phrase in run) for start in starts):
        return ""
    kept = [phrase for phrase in run if phrase.noun_start not in starts]
    if not kept:
        return ""
    items = [_item(sentence, phrase, numbers) for phrase in kept]
    first, last = run[0].start - sentence.start, run[-1].stop - sentence.start
    tail = sentence.text[last:]
    for start, stop in sorted(places, reverse=True):
        a, b = start - sentence.start - last, stop - sentence.start - last
        if a < 0:
            return ""
        tail = tail[:a].rstrip() + tail[b:]
    head = sentence.text[:first]
    verb = "are" if kept[0].plural and kept[0].start not in numbers else "is"
    head = _THERE.sub(lambda match: f"{match.group()[:5]} {verb}", head)
    joined = items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
    return f"{head}{joined}{tail}".strip()


def _item(sentence: Sentence, phrase: NounPhrase, uncounted: Collection[int]) -> str:
    if phrase.determiner[0] in uncounted:
        return f"at least one {phrases.singular(phrase.noun)}"
    return sentence.text[phrase.start - sentence.start : phrase.stop - sentence.start]
