"""OpenAI's messages to the core's. A client names no files: pictures come as data URIs, or from allowed hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saliency_guard.adapters.prompt_memo import CoreMessages
from saliency_guard.chat.fetch import fetched, is_remote, scheme_of
from saliency_guard.chat.images import data_url_bytes
from saliency_guard.chat.limits import require_messages
from saliency_guard.errors import ImageError, MessageError, shown
from saliency_guard.server.settings import ServerSettings

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_TEXTS = {"text", "input_text", "output_text"}
_PICTURES = {"image_url", "input_image"}


def core_messages(messages: Sequence[Mapping[str, Any]], settings: ServerSettings) -> CoreMessages:
    """Messages in the form that `LVLM` takes.

    Args:
        messages: of a request, in OpenAI's form; a text part may name its ``source``, as for `LVLM`.
        settings: what pictures may be.

    Raises:
        MessageError: for a message or a part that is not taken.
        ImageError: for a picture that is not taken.
    """
    require_messages(messages, "objects")
    pictures = _Pictures(settings)
    return [_message(message, number, pictures) for number, message in enumerate(messages)]


def picture_messages(pictures: Iterable[str], question: str, settings: ServerSettings) -> CoreMessages:
    """One message of the user: pictures, as URLs or base64, and a question about them."""
    known = _Pictures(settings)
    parts = [known.part(url if scheme_of(url) else f"data:image/unknown;base64,{url}", 0) for url in pictures]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


class _Pictures:
    """The pictures of one request: not too many, not too large, and none from where none may come."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._count = 0

    def part(self, url: Any, number: int) -> dict[str, Any]:
        """A picture as a part of a message."""
        if not isinstance(url, str):
            msg = f"message {number} has a picture whose url is {shown(url)}: give a data URI"
            raise ImageError(msg)
        self._count += 1
        if self._count > self._settings.max_images:
            msg = f"there are more than {self._settings.max_images} pictures: send fewer"
            raise ImageError(msg)
        if scheme_of(url) == "data":
            return {"type": "image", "image": data_url_bytes(url, max_bytes=self._settings.max_image_bytes)}
        if not is_remote(url) or self._settings.fetch_image is None:
            msg = f"message {number} has a picture that is not fetched: send a data URI, data:image/png;base64,..."
            raise ImageError(msg)
        return {"type": "image", "image": fetched(url, self._settings.fetch_image)}


def _message(message: Any, number: int, pictures: _Pictures) -> dict[str, Any]:
    given = message if isinstance(message, Mapping) else {}
    role = given.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        msg = f"message {number} has role {shown(role)}; roles are {', '.join(_ROLES)}"
        raise MessageError(msg)
    if given.get("function_call") is not None:
        msg = f"message {number} has a function_call: give tool_calls"
        raise MessageError(msg)
    content = given.get("content")
    parts = [] if content is None else [_part(part, number, pictures) for part in _parts(content, number)]
    converted: dict[str, Any] = {"role": _ROLES[role], "content": parts}
    # The core checks what these hold.
    converted |= {name: given[name] for name in ("tool_calls", "tool_call_id") if given.get(name)}
    if role == "tool" and given.get("name") is not None:
        converted["name"] = given["name"]
    if not parts and "tool_calls" not in converted:
        converted["content"] = ""
    return converted


def _parts(content: Any, number: int) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if isinstance(content, list):
        return content
    msg = f"message {number} has {shown(content)} as its content: give a text or a list of parts"
    raise MessageError(msg)


def _part(part: Any, number: int, pictures: _Pictures) -> dict[str, Any]:
    given = part if isinstance(part, Mapping) else {}
    kind = given.get("type") if isinstance(given.get("type"), str) else None
    if kind in _TEXTS:
        text = {"type": "text", "text": given.get("text")}
        return {**text, "source": given["source"]} if given.get("source") is not None else text
    if kind in _PICTURES:
        target = given.get("image_url")
        return pictures.part(target.get("url") if isinstance(target, Mapping) else target, number)
    msg = f"message {number} has a part of type {shown(given.get('type'))}: this server takes 'text' and 'image_url'"
    raise MessageError(msg)
