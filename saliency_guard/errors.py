"""Every error this package raises on purpose.

::

    SaliencyGuardError
    ├── InputError (ValueError)          what was handed in cannot be used
    │   ├── MessageError                 a chat message is malformed, or there is none
    │   ├── ImageError                   an image is missing, unreadable or too large
    │   └── ContextLengthError           prompt and answer do not fit the model's context
    ├── ConfigError (ValueError)         a setting is out of range, or settings contradict each other
    │   └── CalibrationMismatchError     a calibration belongs to another model, or to other settings
    ├── ModelError (RuntimeError)        the model cannot do what is asked of it
    │   ├── UnsupportedModelError        its attention or its cache cannot be read
    │   └── NonFiniteError               its logits are NaN or infinite
    ├── MissingExtraError (ImportError)  an optional dependency is not installed
    ├── UnjudgedError                    an answer has no grounding, and what is asked of it needs one
    ├── LowGroundingError                no answer was grounded well enough (in `outcome`)
    ├── QueueFullError (RuntimeError)    too many calls wait for the model already
    ├── DeadlineError (TimeoutError)     the time of a call, or a policy's, passed before there was any answer
    ├── RequestError                     a server does not answer a request (in `server.errors`)
    └── CancelledError                   a call was cancelled
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from reprlib import Repr
from typing import Any


class SaliencyGuardError(Exception):
    """Root of the tree: catch this to catch everything this package raises on purpose.

    All of them go from one process to another (by pickle) with their message and their attributes.
    """

    def __reduce__(self) -> tuple[Callable[..., SaliencyGuardError], tuple[Any, ...]]:
        # Made anew without __init__: what that wants is not what `args` holds, and a pool waits for ever for an error
        # that cannot be unpickled.
        return _again, (type(self), self.args, dict(self.__dict__))


def _again(kind: type[SaliencyGuardError], args: tuple[Any, ...], attributes: dict[str, Any]) -> SaliencyGuardError:
    error = kind.__new__(kind, *args)
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    builtin.__init__(error, *args)
    error.__dict__.update(attributes)
    return error


class InputError(SaliencyGuardError, ValueError):
    """What was handed in cannot be used."""


class MessageError(InputError):
    """A chat message is malformed, or there is none."""


class ImageError(InputError):
    """An image is missing, unreadable, or larger than the stated limit."""


class ContextLengthError(InputError):
    """Prompt and answer do not fit the model's context.

    Attributes:
        needed: tokens that were asked for.
        limit: tokens the model can hold.
    """

    def __init__(self, message: str, *, needed: int, limit: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.limit = limit


class ConfigError(SaliencyGuardError, ValueError):
    """A setting is out of range, or two settings contradict each other."""


class CalibrationMismatchError(ConfigError):
    """A calibration belongs to another model, or to other settings.

    Attributes:
        differing: field -> (what the calibration was fitted for, what was found).
    """

    def __init__(self, differing: Mapping[str, tuple[object, object]]) -> None:
        fields = "; ".join(
            f"{name}: fitted for {fitted}, found {actual}" for name, (fitted, actual) in differing.items()
        )
        super().__init__(
            f"the calibration does not fit ({fields}): fit one with `saliency-guard calibrate`, or pass "
            "allow_mismatch=True and have every result marked as uncalibrated"
        )
        self.differing = dict(differing)


class ModelError(SaliencyGuardError, RuntimeError):
    """The model cannot do what is asked of it."""


class UnsupportedModelError(ModelError):
    """The model's attention or cache cannot be read: not a causal decoder of transformers' own kind."""


class NonFiniteError(ModelError):
    """The model's logits are NaN or infinite, so nothing that follows would mean anything."""


class QueueFullError(SaliencyGuardError, RuntimeError):
    """Too many calls are being answered or wait for the model already: try again later."""


class DeadlineError(SaliencyGuardError, TimeoutError):
    """The time of a call, or a policy's, passed before there was any answer."""


class CancelledError(SaliencyGuardError):
    """A call was cancelled."""


class UnjudgedError(SaliencyGuardError):
    """An answer has no grounding, and what is asked of it needs one; says why there is none."""


class MissingExtraError(SaliencyGuardError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'saliency-guard[{extra}]'")
        self.package = package
        self.extra = extra


def require_extra(module: str, package: str, extra: str) -> None:
    """Say now, in one sentence, that an optional dependency is missing.

    Args:
        module: what would be imported.
        package: what it is installed as.
        extra: the extra of ours that brings it.

    Raises:
        MissingExtraError: if the module is not there.
    """
    if find_spec(module) is None:
        raise MissingExtraError(package, extra)


class _Shown(Repr):
    """Short, shallow, and never an error itself: what is shown may be anything."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = 100

    def repr_bytes(self, value: bytes, _: int) -> str:
        """As for a text: only what is shown is written out."""
        return self.repr_str(value[: self.maxstring], _)  # type: ignore[arg-type]

    repr_bytearray = repr_bytes

    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write out numbers of thousands of digits."""
        return super().repr_int(value, level) if value.bit_length() < 4000 else f"{value.bit_length()} bits of a number"


_SHOWN = _Shown()


def shown(value: Any) -> str:
    """A value for an error message: its repr, cut short where it is long, deep or broken."""
    return _SHOWN.repr(value)
