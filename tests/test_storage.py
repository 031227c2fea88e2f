"""Files of ours say one thing, to every reader."""

from __future__ import annotations

import pytest

from saliency_guard.storage import strict_json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "'a' is named twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "'a' is named twice"),
        ("[NaN]", "NaN is no finite number"),
        ("[-Infinity]", "-Infinity is no finite number"),
        ("[1e999]", "1e999 is no finite number"),
        ("{} {}", "Extra data"),
        ("", "Expecting value"),
    ],
)
def test_what_readers_disagree_about_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        strict_json(text)


def test_what_all_agree_about_is_read() -> None:
    assert strict_json('{"a": [1, 2.5, 1e3, null, true, "NaN"]}') == {"a": [1, 2.5, 1000.0, None, True, "NaN"]}
