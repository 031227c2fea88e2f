"""The base of all settings: frozen, strict about names, and wrong values are errors of our tree."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saliency_guard.errors import ConfigError, shown

MAX_SECONDS = 1_000_000.0
"""The longest time that may be waited for: eleven days; timers of some systems take little more."""

Seconds = Annotated[float, Field(gt=0.0, le=MAX_SECONDS, allow_inf_nan=False)]

Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
OpenProbability = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
"""Any number that can be added up and multiplied with others of its kind without becoming infinite."""
Scale = Annotated[float, Field(ge=1e-30, le=1e30, allow_inf_nan=False)]
"""What may be divided by."""
Count = Annotated[int, Field(ge=0)]


class Frozen(BaseModel):
    """An immutable record with no fields but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Frozen):
    """Frozen settings; raises `ConfigError` for a wrong value or an unknown name."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refused(type(self).__name__, error) from error
        except TypeError as error:  # Settings in settings, of keys that are no names.
            msg = f"{type(self).__name__}: {error}"
            raise ConfigError(msg) from error


def refused(name: str, error: ValidationError) -> ConfigError:
    """What pydantic says of wrong settings, as an error of our tree.

    Args:
        name: of the settings.
        error: pydantic's.
    """
    problems = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'] if isinstance(part, str)) or 'value'}: "
        f"{item['msg'].removeprefix('Value error, ')}" + (f" (got {shown(item['input'])})" if item["loc"] else "")
        for item in error.errors()
    )
    return ConfigError(f"{name}: {problems}")


def seconds(name: str, value: Any) -> float | None:
    """A time that may be waited for; None is no limit.

    Raises:
        ConfigError: if it is no number above 0, or infinite, or longer than `MAX_SECONDS`.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value <= MAX_SECONDS:
        msg = f"{name} must be a number of seconds above 0 and up to {MAX_SECONDS:g}, or None, not {shown(value)}"
        raise ConfigError(msg)
    return float(value)


def require_between(**values: float) -> None:
    """Raise `ConfigError` for one that is not between 0 and 1, as risks and confidences are: neither 0 nor 1."""
    for name, value in values.items():
        if not 0.0 < value < 1.0:
            msg = f"{name}={value} is not between 0 and 1"
            raise ConfigError(msg)


def require(kind: type[Settings], *values: Settings | None) -> None:
    """Raise `ConfigError` for a value that is neither None nor of the kind: a dict, or other settings."""
    for value in values:
        if value is not None and not isinstance(value, kind):
            msg = f"expected {kind.__name__}(...) or None, not {shown(value)}"
            raise ConfigError(msg)
