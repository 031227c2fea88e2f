"""Drafts are long where rejections are rare, and short where they are not."""

from __future__ import annotations

from saliency_guard import SGRSConfig
from saliency_guard.decoding.draft_length import draft_length


def test_a_fixed_length_is_kept() -> None:
    assert draft_length(SGRSConfig(draft_length=7), rejections=50, tokens=50) == 7


def test_more_rejections_make_shorter_drafts() -> None:
    lengths = [draft_length(SGRSConfig(), rejections, tokens=200) for rejections in (0, 4, 20, 60, 200)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 8
    assert lengths[-1] == 1


def test_one_rejection_counts_less_the_more_tokens_there_are() -> None:
    assert draft_length(SGRSConfig(), rejections=1, tokens=200) > draft_length(SGRSConfig(), rejections=1, tokens=2)
