from __future__ import annotations

from typing import Any

import pytest

from saliency_guard import LVLM, ConfigError
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.stop_strings import MAX_STOP_LENGTH, MAX_STOPS, stop_strings


def test_stop_strings_come_in_many_forms() -> None:
    assert stop_strings(None) == stop_strings(()) == stop_strings([]) == ()
    assert stop_strings("a") == stop_strings(["a"]) == ("a",)
    assert len(stop_strings([f"{number}" * 9 for number in range(MAX_STOPS)])) == MAX_STOPS
    assert stop_strings("x" * MAX_STOP_LENGTH) == ("x" * MAX_STOP_LENGTH,)


WRONG = [7, 1.5, True, b"a", {"a": 1}, {"a"}, object(), "", [""], [None], [7], [b"a"], [["a"]], range(10**9)]
TOO_MUCH = [
    ["a"] * (MAX_STOPS + 1),
    [str(number) for number in range(5000)],
    "x" * (MAX_STOP_LENGTH + 1),
    ["x" * 10**7],
]


@pytest.mark.parametrize("stop", [*WRONG, *TOO_MUCH], ids=range(len(WRONG) + len(TOO_MUCH)))
def test_other_forms_and_too_much_are_refused(stop: Any, lvlm: LVLM) -> None:
    with pytest.raises(ConfigError, match="stop") as refusal:
        stop_strings(stop)
    assert len(str(refusal.value)) < 500
    with pytest.raises(ConfigError, match="stop"):
        lvlm.generate(chat(b"no picture", "Why?"), stop=stop)
