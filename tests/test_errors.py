"""Errors are short, and the same in every process."""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
from typing import Any

import numpy as np
import pytest

import saliency_guard
from saliency_guard import GroundedAnswer, LowGroundingError, SaliencyGuardError, TokenGrounding, Usage
from saliency_guard.errors import CalibrationMismatchError, ContextLengthError, MissingExtraError, ModelError, shown
from saliency_guard.guard.outcome import Attempt


class Broken:
    def __repr__(self) -> str:
        raise KeyError(7)


class Deep(list[Any]):
    """Not called list: shown by its own repr."""


def nested(kind: type[list[Any]]) -> list[Any]:
    value = kind()
    for _ in range(100_000):
        value = kind([value])
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        ("robot", "'robot'"),
        (7, "7"),
        (1.5, "1.5"),
        ({"a": [1]}, "{'a': [1]}"),
        (b"x", "b'x'"),
    ],
)
def test_short_values_are_shown_as_they_are(value: Any, text: str) -> None:
    assert shown(value) == text


HARD = [
    "x" * 10**7,
    b"x" * 10**7,
    bytearray(10**7),
    10**9000,
    -(10**9000),
    [10**9000],
    nested(list),
    nested(Deep),
    {"a": nested(list)},
    {"a" * 10**6: "b" * 10**6},
    list(range(10**6)),
    Broken(),
    [Broken()],
    np.zeros((1000, 1000)),
    "\ud800",
]


@pytest.mark.parametrize("value", HARD, ids=range(len(HARD)))
def test_anything_is_shown_in_a_few_words(value: Any) -> None:
    assert len(shown(value)) < 2000
    shown(value).encode()


USAGE = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
TOKEN = TokenGrounding(text="cat", token_id=1, position=0, logprob=-1.0, saliency=None)
ANSWER = GroundedAnswer(
    text="cat", tokens=(TOKEN,), finish_reason="stop", usage=USAGE, model_id="none", grounding=0.1, calibrated=True
)
ATTEMPT = Attempt(answer=ANSWER, score=0.1, refused="grounding 0.100 is below 0.900")
ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "ContextLengthError": (("too long",), {"needed": 9, "limit": 4}),
    "CalibrationMismatchError": (({"dtype": ("float32", "bfloat16")},), {}),
    "MissingExtraError": (("MAPIE", "calibrate"), {}),
    "RequestError": ((429, "too many"), {"kind": "rate_limit_error", "code": "queue_full", "headers": {"a": "b"}}),
    "LowGroundingError": ((ANSWER, 0.1, 0.9, (ATTEMPT,)), {}),
}


def kinds() -> list[type[SaliencyGuardError]]:
    """The whole tree, wherever a part of it stands."""
    for module in pkgutil.walk_packages(saliency_guard.__path__, "saliency_guard."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, left = [], [SaliencyGuardError]
    while left:
        kind = left.pop()
        found.append(kind)
        left += kind.__subclasses__()
    return sorted(set(found), key=lambda kind: kind.__name__)


def made(kind: type[SaliencyGuardError]) -> SaliencyGuardError:
    values, named = ARGUMENTS.get(kind.__name__, (("what was wrong, and what to do",), {}))
    return kind(*values, **named)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_an_error_is_the_same_in_another_process(kind: type[SaliencyGuardError], protocol: int) -> None:
    error = made(kind)
    error.add_note("seen in a worker")
    for again in (
        pickle.loads(pickle.dumps(error, protocol)),  # noqa: S301 - our own
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(again) is kind
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert getattr(again, "msg", None) == getattr(error, "msg", None)  # Of an ImportError.


def test_every_error_with_arguments_of_its_own_is_tested() -> None:
    with_own = {kind.__name__ for kind in kinds() if "__init__" in vars(kind)}
    assert with_own == set(ARGUMENTS)


def fails(name: str) -> None:
    raise made(next(kind for kind in kinds() if kind.__name__ == name))


@pytest.mark.parametrize(
    "kind", [ContextLengthError, CalibrationMismatchError, MissingExtraError, LowGroundingError, ModelError]
)
def test_a_pool_gives_the_error_on(kind: type[SaliencyGuardError]) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        work = pool.apply_async(fails, (kind.__name__,))
        with pytest.raises(kind) as caught:
            work.get(timeout=60)
    assert vars(caught.value).items() >= vars(made(kind)).items()
