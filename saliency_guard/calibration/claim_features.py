"""What a calibration sees of a claim and of all claims together: the tokens that decide it, and a summary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.token_filter import TokenFilter, token_at
from saliency_guard.claims.extract import ClaimKind, ExtractedClaim

ANSWER_FEATURES = 6
"""How many `answer_summary` gives."""


def claim_tokens(pieces: Sequence[str], claim: ExtractedClaim) -> tuple[int, ...]:
    """Indices of the tokens that decide a claim.

    A number, a yes or a no is decided where it begins, an object and a place at their last word ("a black *cat*", "on
    the *left*"), a whole sentence at all of its words that count.

    Args:
        pieces: every token's piece of the text; they concatenate to it.
        claim: of that text.
    """
    text = "".join(pieces)[claim.start : claim.stop]
    if claim.kind == "statement":
        first, last = token_at(pieces, claim.start), token_at(pieces, claim.stop - 1)
        counted = [index for index in TokenFilter().counted(pieces) if first <= index <= last]
        return tuple(counted or range(first, last + 1))
    start = claim.start
    if claim.kind in {"object", "place"}:
        words = text[: len(claim.place)] if claim.kind == "place" and not claim.other else text.rstrip()
        start += words.rstrip().rfind(" ") + 1
    # The token that begins a word is the one that decided for it; a space before the word is part of it.
    return (token_at(pieces, start),)


def answer_summary(odds: Floats, kinds: Sequence[ClaimKind]) -> Floats:
    """What a model of answers sees of the log-odds of all claims.

    The log of the product of their probabilities (were claims independent, it would be all there is to know), the two
    least, the mean, how many there are, and whether it is a single yes or no.
    """
    least = np.sort(odds)[:2]
    together = -np.logaddexp(0.0, -odds).sum()
    return np.array([together, least[0], least[-1], odds.mean(), np.log(len(odds)), float(kinds[0] == "yes_no")])
