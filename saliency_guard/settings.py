"""The base of all settings: frozen, strict about names, and wrong values are errors of our tree."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from saliency_guard.errors import ConfigError


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
                f"{item['msg'].removeprefix('Value error, ')}" + (f" (got {item['input']!r})" if item["loc"] else "")
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
