"""Stop strings: where an answer ends, and what must be held back until it is known that it does not end there."""

from __future__ import annotations

from collections.abc import Sequence

from saliency_guard.answer import TokenGrounding
from saliency_guard.errors import ConfigError, shown

MAX_STOPS = 64
"""Stop strings of one answer."""

MAX_STOP_LENGTH = 1_000
"""Characters of a stop string."""


def stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Stop strings as a tuple.

    Raises:
        ConfigError: if one is empty or no string, or there are too many or too long ones.
    """
    if stop is not None and not isinstance(stop, (list, tuple, str)):
        msg = f"stop must be a string or several, not {shown(stop)}"
        raise ConfigError(msg)
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        msg = f"stop has {len(stops)} strings: at most {MAX_STOPS} are looked for"
        raise ConfigError(msg)
    if any(not isinstance(stop, str) or not stop for stop in stops):
        msg = f"stop must be non-empty strings, not {shown(stop)}"
        raise ConfigError(msg)
    longest = max(map(len, stops), default=0)
    if longest > MAX_STOP_LENGTH:
        msg = f"stop has a string of {longest} characters: at most {MAX_STOP_LENGTH} are looked for"
        raise ConfigError(msg)
    return stops


def cut(tokens: list[TokenGrounding], stops: tuple[str, ...]) -> tuple[list[TokenGrounding], bool]:
    """Tokens up to the first stop string, the one it begins in cut short; and whether there was one."""
    text = "".join(token.text for token in tokens)
    starts = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    if not starts:
        return tokens, False
    kept: list[TokenGrounding] = []
    left = min(starts)
    for token in tokens:
        if left <= 0:
            break
        kept.append(token.model_copy(update={"text": token.text[:left]}))
        left -= len(token.text)
    return kept, True


def may_have_begun(tokens: list[TokenGrounding], stops: tuple[str, ...]) -> int:
    """How many of the last tokens a stop string may have begun in."""
    text = "".join(token.text for token in tokens)
    begun = max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )
    count, covered = 0, 0
    while covered < begun:
        count += 1
        covered += len(tokens[-count].text)
    return count


def with_rest(tokens: list[TokenGrounding], rest: str) -> list[TokenGrounding]:
    """The tokens with the text of an incomplete character (`AnswerText.flush`) appended to the last."""
    if not rest or not tokens:
        return tokens
    last = tokens[-1]
    return [*tokens[:-1], last.model_copy(update={"text": last.text + rest})]
