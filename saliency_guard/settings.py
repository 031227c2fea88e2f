"""The base of all settings: frozen, strict about names, and wrong values are errors of our tree."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saliency_guard.errors import ConfigError

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
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc'] if isinstance(part, str)) or 'value'}: "
                f"{item['msg'].removeprefix('Value error, ')} (got {item['input']!r})"
                for item in error.errors()
            )
            msg = f"{type(self).__name__}: {problems}"
            raise ConfigError(msg) from error


def require(kind: type[Settings], *values: Settings | None) -> None:
    """Raise `ConfigError` for a value that is neither None nor of the kind: a dict, or other settings."""
    for value in values:
        if value is not None and not isinstance(value, kind):
            msg = f"expected {kind.__name__}(...) or None, not {value!r}"
            raise ConfigError(msg)
