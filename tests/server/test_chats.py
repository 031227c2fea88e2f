from __future__ import annotations

import pytest

from saliency_guard.server import chats
from saliency_guard.server.chats import RecentChats


def chat(size: int = 1) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image", "image": b"x" * size}, {"type": "text", "text": "?"}]}]


def test_a_chat_is_found_by_its_call() -> None:
    known = RecentChats()
    first, second = chat(), chat(2)
    known.remember("a", first)
    known.remember("b", second)
    assert known.recall("a") is first
    known.remember("a", second)
    assert known.recall("a") is second
    assert known.recall("c") is None
    assert known.recall(None) is None
    known.forget("a")
    known.forget("a")
    assert known.recall("a") is None


def test_only_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "_MOST", 2)
    known = RecentChats()
    for name in "abc":
        known.remember(name, chat())
    assert [known.recall(name) is not None for name in "abc"] == [False, True, True]


def test_large_chats_push_older_ones_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "_MOST_BYTES", 100)
    known = RecentChats()
    known.remember("a", chat(60))
    known.remember("b", chat(60))
    assert known.recall("a") is None
    assert known.recall("b") is not None
    known.remember("c", chat(1000))
    assert known.recall("c") is None


def test_old_chats_are_forgotten() -> None:
    now = [0.0]
    known = RecentChats(clock=lambda: now[0])
    known.remember("a", chat())
    now[0] = 599.0
    assert known.recall("a") is not None
    now[0] = 601.0
    assert known.recall("a") is None


def test_all_of_a_chat_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "_MOST_BYTES", 1000)
    known = RecentChats()
    known.remember("a" * 2000, chat())
    assert known.recall("a" * 2000) is None
    known.remember("b", [{"role": "assistant", "content": "", "tool_calls": [{"arguments": "x" * 2000}]}])
    assert known.recall("b") is None
