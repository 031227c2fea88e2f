"""Every error goes from one process to another as it was: a pool waits for ever for one that cannot be read."""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
from typing import Any

import pytest

import saliency_guard
from saliency_guard import GroundedAnswer, LowGroundingError, SaliencyGuardError, TokenGrounding, Usage
from saliency_guard.errors import CalibrationMismatchError, ContextLengthError, MissingExtraError, ModelError
from saliency_guard.guard.outcome import Attempt

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
