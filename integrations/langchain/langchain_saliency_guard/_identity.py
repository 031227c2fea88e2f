"""Settings as plain values that identify them: for the keys of caches and for tracers."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel

from saliency_guard import GuardPolicy


def plain(value: Any) -> Any:
    """A setting as a plain value: equal settings give equal values, in every process."""
    if isinstance(value, GuardPolicy):
        code = {name: getattr(value, name) for name in ("fallback", "stop")}
        named = {name: None if used is None else _named(used) for name, used in code.items()}
        return {
            **value.model_dump(mode="json", exclude={"calibrator"}),
            "calibrator": digest(value),
            **named,
        }
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _named(function: Any) -> str:
    """A module's function by its name; a closure, a method or an object by its identity, too."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    is_unnamed = "<" in name or not hasattr(function, "__qualname__") or hasattr(function, "__self__")
    return f"{name} {id(function)}" if is_unnamed else name


def digest(value: BaseModel | None) -> str | None:
    """A short name of settings too long to write out."""
    return None if value is None else hashlib.sha256(value.model_dump_json().encode()).hexdigest()[:16]
