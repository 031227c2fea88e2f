"""What a calibration sees of a whole answer: its tokens that count, and a summary of what their model says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saliency_guard.calibration.features import SUMMARIES, Floats
from saliency_guard.calibration.records import GroundingRecord
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.errors import InputError

_SHORT, _MIDDLING = 2, 4  # Tokens that count.
_SEEN, _LENGTHS = 6, 3
ANSWER_FEATURES = 2 * (_SEEN + _LENGTHS + _LENGTHS * _SEEN + len(SUMMARIES)) + 1
"""How many `answer_summary` gives."""
_SURPRISE = 4.0
"""Nats: a token less likely than that is hardly the model's own."""


def counted_rows(counts: TokenFilter, pieces: Sequence[str], known: Sequence[int]) -> Mapping[int, int]:
    """Token that counts -> its row."""
    at = {token: row for row, token in enumerate(known)}
    counted = counts.counted(pieces)
    missing = [token for token in counted if token not in at]
    if missing:
        msg = f"token {missing[0]} ({pieces[missing[0]]!r}) counts but was not recorded: use the filter of the records"
        raise InputError(msg)
    return {token: at[token] for token in counted}


def answer_summary(odds: Floats, counted: Floats) -> Floats:
    """What a model of answers sees of the tokens that count.

    The first and the last (a yes or no, the last thing that is named), the mean, the two least, the log of the product
    of their probabilities, and how many there are. A claim weighs otherwise in a short answer than in a long one, so
    these are there for each kind of length, too. And the means of the summary signals: what all tokens together say.
    All of it is there once more for answers without a surprise: what says that the model doubts its own words says
    little of somebody else's.
    """
    least = np.sort(odds)[:2]
    together = -np.logaddexp(0.0, -odds).sum()
    seen = np.array([odds[0], odds[-1], odds.mean(), least[0], least[-1], together])
    count = len(odds)
    length = np.array([np.log(count), count <= _SHORT, _SHORT < count <= _MIDDLING], dtype=np.float64)
    means = np.ma.masked_invalid(counted[:, : len(SUMMARIES)]).mean(axis=0).filled(np.nan)
    all_of_it = np.concatenate([seen, length, np.outer(length, seen).ravel(), means])
    surprise = counted[:, SUMMARIES.index("nll")].max(initial=0.0)
    own = float(surprise < _SURPRISE)
    return np.concatenate([all_of_it, [own], own * all_of_it])


def record_pieces(record: GroundingRecord) -> list[str]:
    """The texts of a record's tokens."""
    return [token.text for token in record.answer.tokens]
