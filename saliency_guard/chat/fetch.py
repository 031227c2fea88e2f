"""What may be fetched from the network: nothing, unless a function is given that fetches, such as a `URLFetcher`.

Every place that could fetch asks here, so there is one rule of what a URL is and one allow-list.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from saliency_guard.chat.addresses import addresses_of, is_public
from saliency_guard.chat.timed import TimedSocket, in_time, seconds_left
from saliency_guard.errors import ConfigError, ImageError, shown

Fetch = Callable[[str], bytes]
"""Gets the bytes behind a URL."""

MAX_FETCHED_BYTES = 20_000_000
"""The most that a `URLFetcher` takes for one URL, unless it is told otherwise."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):")
_HOST = re.compile(r"[a-z0-9._-]+(:\d+)?|[0-9a-f:.]+")
_LONGEST_SCHEME = 64
_PORT = 443
_MOST_HEADERS = 1_000_000
_REDIRECTS = {301, 302, 303, 307, 308}
_PIECE = 1 << 16
_HEADERS = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "saliency-guard"}
_IN_A_PATH = "%/:@!$&'()*+,;=~?"

Resolve = Callable[[str], Sequence[str]]
Connect = Callable[[tuple[str, int], float], socket.socket]


def scheme_of(text: str) -> str:
    """The scheme of a URL as the most lenient library reads it; empty for a text that is no URL.

    White space and control characters count nowhere, and upper case is lower case. A single letter is a drive.
    """
    start = text[: 4 * _LONGEST_SCHEME].lstrip()
    plain = "".join(sign for sign in start if sign.isprintable() and not sign.isspace())
    scheme = _SCHEME.match(plain[:_LONGEST_SCHEME].casefold())
    return scheme[1] if scheme else ""


def is_remote(text: str) -> bool:
    """Whether a text is a URL of the web."""
    return scheme_of(text) in {"http", "https"}


def fetched(url: str, fetch: Fetch | None) -> bytes:
    """The bytes behind a URL of the web.

    Args:
        url: of http or https.
        fetch: gets them; None refuses.

    Raises:
        ImageError: if there is nothing to fetch with, or it gives no bytes.
    """
    if fetch is None:
        msg = (
            f"{_named(url)} is not fetched: pass the picture's bytes or path, or fetch_image=..., a function from a "
            "URL to bytes such as URLFetcher(allowed_hosts=[...])"
        )
        raise ImageError(msg)
    content = fetch(url)
    if not isinstance(content, (bytes, bytearray)):
        msg = f"fetch_image gave {shown(content)} for {_named(url)}: it is to give bytes"
        raise ImageError(msg)
    return bytes(content)


class URLFetcher:
    """Fetches what lies behind https URLs of allowed hosts, for ``fetch_image``.

    The host's name is looked up once, every address that comes of it must be public, and the connection goes to that
    very address, with the certificate of the name. Redirects are checked as the first URL is.

    Args:
        allowed_hosts: names; ``"*.example.org"`` is every host below that one, ``"example.org:8443"`` another port.
        max_bytes: the most for one URL.
        timeout: seconds for one URL, from looking it up to its last byte, redirects included.
        max_redirects: how many are followed.
        context: for TLS; None is the system's certificates.
        resolve: from a host to its addresses; None asks the system.
        connect: from an address and a port, and seconds, to a socket; None connects directly.

    Raises:
        ConfigError: if a setting is of the wrong kind or out of range.
    """

    def __init__(
        self,
        allowed_hosts: Iterable[str],
        *,
        max_bytes: int = MAX_FETCHED_BYTES,
        timeout: float = 10.0,
        max_redirects: int = 3,
        context: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
    ) -> None:
        self._allowed = frozenset(_allowed(allowed_hosts))
        self._max_bytes = _whole("max_bytes", max_bytes, 1)
        self._max_redirects = _whole("max_redirects", max_redirects, 0)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 3600:
            msg = f"timeout must be a number of seconds above 0 and up to 3600, not {shown(timeout)}"
            raise ConfigError(msg)
        self._timeout = float(timeout)
        self._context = context or ssl.create_default_context()
        self._resolve = resolve or addresses_of
        self._connect = connect or socket.create_connection

    def __call__(self, url: str) -> bytes:
        """The bytes behind a URL.

        Raises:
            ImageError: if the URL is not allowed, or what is there cannot be had within the limits.
        """
        end = time.monotonic() + self._timeout
        for _ in range(self._max_redirects + 1):
            target = self._target(url)
            try:
                with self._response(target, end) as response:
                    if response.status not in _REDIRECTS:
                        return self._body(response, url)
                    url = urljoin(target.url, response.headers.get("Location", ""))
            except ImageError:
                raise
            except TimeoutError as error:
                msg = f"{_named(url)} was not there within {self._timeout:g} s"
                raise ImageError(msg) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                msg = f"{_named(url)} cannot be fetched: {error or type(error).__name__}"
                raise ImageError(msg) from error
        msg = f"{_named(url)} is not fetched: there were more than {self._max_redirects} redirects before it"
        raise ImageError(msg)

    def _target(self, url: str) -> _Target:
        """A URL taken apart, if it may be fetched."""
        target = _taken_apart(url)
        named = target.host if target.port == _PORT else f"{target.host}:{target.port}"
        above = [f"*.{named.split('.', depth)[-1]}" for depth in range(1, target.host.count(".") + 1)]
        if self._allowed.isdisjoint([named, *above]):
            msg = f"{_named(url)} is not fetched: {named} is none of the allowed_hosts"
            raise ImageError(msg)
        return target

    @contextmanager
    def _response(self, target: _Target, end: float) -> Iterator[http.client.HTTPResponse]:
        addresses = in_time(lambda: self._resolve(target.host), end)
        refused = [address for address in addresses if not is_public(address)]
        if refused or not addresses:
            msg = f"{target.host} is not fetched from: {refused[0] if refused else 'nothing'} is no public address"
            raise ImageError(msg)
        with self._connected(addresses, target.port, end) as plain:
            plain.settimeout(seconds_left(end))
            with self._context.wrap_socket(plain, server_hostname=target.host) as secure:
                connection = http.client.HTTPSConnection(target.host, target.port, context=self._context)
                connection.auto_open = 0  # Never again by name.
                connection.sock = TimedSocket(secure, end, 2 * self._max_bytes + _MOST_HEADERS)
                connection.request("GET", target.path, headers=_HEADERS)
                with connection.getresponse() as response:
                    yield response

    def _connected(self, addresses: Sequence[str], port: int, end: float) -> socket.socket:
        """A connection to the first of the addresses that answers."""
        for last, address in zip([*[False] * (len(addresses) - 1), True], addresses, strict=True):
            try:
                return self._connect((address, port), seconds_left(end))
            except OSError:
                if last:
                    raise
        raise AssertionError  # There is at least one.

    def _body(self, response: http.client.HTTPResponse, url: str) -> bytes:
        if response.status != 200:
            msg = f"{_named(url)} cannot be fetched: the answer is {response.status} {shown(response.reason)}"
            raise ImageError(msg)
        coding = response.headers.get("Content-Encoding", "identity")
        if coding.strip().lower() != "identity":
            msg = f"{_named(url)} cannot be fetched: it comes encoded as {shown(coding)}"
            raise ImageError(msg)
        pieces: list[bytes] = []
        size = response.length or 0
        while size <= self._max_bytes and (piece := response.read(_PIECE)):
            pieces.append(piece)
            size = sum(map(len, pieces)) if response.length is None else size
        if size > self._max_bytes:
            msg = f"{_named(url)} is over the limit of {self._max_bytes} bytes"
            raise ImageError(msg)
        if response.length:
            msg = f"{_named(url)} broke off before its end"
            raise ImageError(msg)
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL taken apart."""

    url: str
    host: str
    port: int
    path: str


def _taken_apart(url: str) -> _Target:
    """A URL as what is needed to fetch it.

    Raises:
        ImageError: if it is no https URL, or one that can be read in more than one way.
    """
    if not isinstance(url, str):
        msg = f"a URL is a text, not {shown(url)}"
        raise ImageError(msg)
    text = url.strip()
    if any(sign.isspace() or not sign.isprintable() or sign == "\\" for sign in text):
        msg = f"{_named(url)} is not fetched: it has characters that no URL has"
        raise ImageError(msg)
    if scheme_of(text) != "https":
        msg = f"{_named(url)} is not fetched: only https is"
        raise ImageError(msg)
    try:
        parts = urlsplit(text)
        host, port = _name(parts.hostname or ""), parts.port or _PORT
    except ValueError as error:
        msg = f"{_named(url)} is not fetched: {error}"
        raise ImageError(msg) from error
    if parts.username is not None or parts.password is not None:
        msg = f"{_named(url)} is not fetched: it has a user or a password"
        raise ImageError(msg)
    path = quote(parts.path or "/", safe=_IN_A_PATH) + (
        f"?{quote(parts.query, safe=_IN_A_PATH)}" if parts.query else ""
    )
    return _Target(text, host, port, path)


def _name(host: str) -> str:
    """A host's name as certificates have it: lower case, in ASCII, without a dot at its end.

    Raises:
        ValueError: if it is no name of a host.
    """
    name = host.rstrip(".").encode("idna").decode("ascii").lower()
    if not _HOST.fullmatch(name):
        msg = f"{shown(host)} is no name of a host"
        raise ValueError(msg)
    return name


def _allowed(hosts: Iterable[str]) -> Iterator[str]:
    if isinstance(hosts, str) or not isinstance(hosts, Iterable):
        msg = f"allowed_hosts must be names of hosts in a list, not {shown(hosts)}"
        raise ConfigError(msg)
    for host in hosts:
        below = "*." if isinstance(host, str) and host.startswith("*.") else ""
        try:
            yield below + _name(host.removeprefix(below).removesuffix(f":{_PORT}"))
        except (AttributeError, ValueError) as error:
            msg = f"allowed_hosts must be names such as 'example.org' or '*.example.org', not {shown(host)}"
            raise ConfigError(msg) from error


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} must be a whole number of at least {least}, not {shown(value)}"
        raise ConfigError(msg)
    return value


def _named(url: str) -> str:
    """A URL for an error: without its query, which may hold a key."""
    return shown(str(url)[:1000].partition("?")[0])
