"""Settings as what identifies them: the key of caches, and what tracers write down."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel

from saliency_guard import GuardPolicy


def plain(value: Any) -> Any:
    """A setting as something that is the same for equal settings, in every process."""
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
    """A function of a module by its name; what is made on the way (a closure, an object) is itself alone."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    made = "<" in name or not hasattr(function, "__qualname__") or hasattr(function, "__self__")
    return f"{name} {id(function)}" if made else name


def digest(value: BaseModel | None) -> str | None:
    """A short name of settings too long to write out."""
    return None if value is None else hashlib.sha256(value.model_dump_json().encode()).hexdigest()[:16]
