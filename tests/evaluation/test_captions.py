"""Requests for captions: each about another picture."""

from __future__ import annotations

from saliency_guard.evaluation.captions import caption_chats


def test_no_two_pictures_are_the_same() -> None:
    chats = caption_chats(6)
    pictures = {part["image"].tobytes() for messages in chats for part in messages[0]["content"] if "image" in part}
    assert len(chats) == len(pictures) == 6
    assert caption_chats(2)[1] == chats[1]
