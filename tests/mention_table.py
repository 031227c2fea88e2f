"""A table of made-up mentions whose truth is known."""

from __future__ import annotations

import numpy as np

from saliency_guard.evaluation.detection import JUDGED, SCALARS, MentionTable


def synthetic(pictures_: int, seed: int) -> MentionTable:
    """NLL tells a little, S the opposite way; one head of the saliency vector tells nearly all."""
    rng = np.random.default_rng(seed)
    n = pictures_ * 8
    words = rng.integers(0, 6, n)
    wrong = rng.random(n) < np.where(words == 0, 0.7, 0.2)
    signals = rng.normal(size=(n, len(SCALARS)))
    signals[:, SCALARS.index("nll")] += wrong
    signals[:, SCALARS.index("saliency")] -= wrong
    signals[rng.random(n) < 0.1, SCALARS.index("saliency_ratio")] = np.nan
    heads = np.exp(rng.normal(size=(n, 12)))
    heads[:, 3] *= np.exp(3.0 * wrong)
    return MentionTable(
        picture=np.repeat(np.arange(pictures_), 8),
        sampled=np.tile([False, True], n // 2),
        hallucinated=wrong,
        priors=np.stack([np.tile(np.arange(8), pictures_), rng.integers(0, 2, n), rng.integers(0, 5, n)], 1) * 1.0,
        judged=np.where(rng.random((n, len(JUDGED))) < 0.1, np.nan, rng.random((n, len(JUDGED))) - wrong[:, None]),
        signals=signals,
        saliency=heads,
        signed=rng.normal(size=(n, 12)),
        attention=np.exp(rng.normal(size=(n, 12))),
        evidence=rng.normal(size=(n, 5)),
        state=rng.normal(size=(n, 4)),
        word=words,
    )
