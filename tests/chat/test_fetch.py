"""Nothing is fetched but https, from an allowed host, at a public address, within limits of bytes and time."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from saliency_guard import ConfigError, ImageError, URLFetcher
from saliency_guard.chat.fetch import fetched, is_remote, scheme_of

PEM = Path(__file__).with_name("example.org.pem")
HOST = "pictures.example.org"
PUBLIC = "203.0.114.7"
CONTENT = b"a picture" * 1000


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("https://a/b", "https"),
        ("HTTP://a/b", "http"),
        ("hTtP://a/b", "http"),
        (" \t\nhttp://a/b", "http"),
        ("ht\ntp://a/b", "http"),
        ("h\tt\rt\x00p://a/b", "http"),
        ("\u200bhttp://a/b", "http"),
        ("\x7f\xa0http:a", "http"),
        (" " * 100 + "http://a/b", "http"),
        ("DATA:image/png;base64,AA", "data"),
        ("File:///a", "file"),
        ("a picture.png", ""),
        ("C:\\a.png", ""),
        ("10:30.png", ""),
        ("", ""),
    ],
)
def test_schemes_are_compared_as_any_library_may_read_them(text: str, scheme: str) -> None:
    assert scheme_of(text) == scheme
    assert is_remote(text) == (scheme in {"http", "https"})


def test_nothing_is_fetched_unless_it_is_asked_for() -> None:
    with pytest.raises(ImageError, match="fetch_image"):
        fetched("https://example.org/a.png?key=secret", None)
    with pytest.raises(ImageError) as refusal:
        fetched("https://example.org/a.png?key=secret", None)
    assert "secret" not in str(refusal.value)
    assert fetched("https://example.org/a.png", lambda url: url.encode()) == b"https://example.org/a.png"
    with pytest.raises(ImageError, match="is to give bytes"):
        fetched("https://example.org/a.png", lambda _: "/etc/passwd")  # type: ignore[arg-type,return-value]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append((self.headers["Host"], self.path))
        self.server.answer(self)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(PEM)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.asked: list[tuple[str, str]] = []
        self.answer: Callable[[_Handler], None] = sent(CONTENT)

    def handle_error(self, *_: Any) -> None: ...


def sent(content: bytes, status: int = 200, **headers: str) -> Callable[[_Handler], None]:
    def answer(handler: _Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def server(socket_enabled: None) -> Iterator[_Server]:
    running = _Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


class _World:
    """Names, addresses and cables: every public address leads to the server, and all that is done is written down."""

    def __init__(self, server: _Server, *answers: Sequence[str]) -> None:
        self.names: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self._answers = list(answers) or [[PUBLIC]]
        self._port = server.server_address[1]

    def resolve(self, host: str) -> Sequence[str]:
        self.names.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        self.connected.append(address)
        return socket.create_connection(("127.0.0.1", self._port), timeout)

    def fetcher(self, *hosts: str, **settings: Any) -> URLFetcher:
        context = ssl.create_default_context(cafile=str(PEM))
        given: dict[str, Any] = {"timeout": 20.0, "context": context, **settings}
        return URLFetcher(hosts or [HOST], resolve=self.resolve, connect=self.connect, **given)


def test_what_is_allowed_is_fetched(server: _Server) -> None:
    world = _World(server)
    fetch = world.fetcher()
    assert fetch(f" HTTPS://{HOST.upper()}./a b/ü.png?x=1&y=%20#part".replace(" b", "%20b")) == CONTENT
    assert server.asked == [(HOST, "/a%20b/%C3%BC.png?x=1&y=%20")]
    assert world.names == [HOST]
    assert world.connected == [(PUBLIC, 443)]
    above = world.fetcher("*.example.org:8443", "EXAMPLE.net")
    assert above(f"https://{HOST}:8443/b") == CONTENT
    assert world.connected[-1] == (PUBLIC, 8443)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://pictures.example.org/a", "only https"),
        ("ftp://pictures.example.org/a", "only https"),
        ("file:///etc/passwd", "only https"),
        ("//pictures.example.org/a", "only https"),
        ("https://other.example.org/a", "allowed_hosts"),
        ("https://pictures.example.org.evil.net/a", "allowed_hosts"),
        ("https://xpictures.example.org/a", "allowed_hosts"),
        ("https://pictures.example.org:8443/a", "allowed_hosts"),
        ("https://127.0.0.1/a", "allowed_hosts"),
        ("https://[::1]/a", "allowed_hosts"),
        ("https://2130706433/a", "allowed_hosts"),
        ("https://pictures.example.org@127.0.0.1/a", "a user"),
        ("https://127.0.0.1\\@pictures.example.org/a", "no URL has"),
        ("https://pictures.example.org/a\r\nHost: x", "no URL has"),
        ("https://pictures.example.org/a b", "no URL has"),
        ("https://", "no name"),
        ("https://pictures.example.org:99999/a", "not fetched"),
        ("https://[pictures.example.org/a", "not fetched"),
        ("https://pictures..example.org/a", "not fetched"),
        ("https://pictures.example.org\uff0f@evil.net/a", "not fetched"),
        ("", "only https"),
        (7, "is a text"),
    ],
)
def test_what_is_not_allowed_is_not_looked_up(url: Any, complaint: str) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(ImageError, match=complaint):
        URLFetcher([HOST], resolve=never, connect=never)(url)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1%eth0"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        [],
    ],
)
def test_addresses_that_are_not_public_are_refused(addresses: list[str]) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(ImageError, match="no public address"):
        URLFetcher([HOST], resolve=lambda _: addresses, connect=never)(f"https://{HOST}/a")


def test_a_name_that_comes_to_mean_loopback_is_not_followed(server: _Server) -> None:
    """A resolver that says a public address first and loopback from then on is asked once, and taken at its word."""
    world = _World(server, [PUBLIC], ["127.0.0.1"])
    fetch = world.fetcher()
    assert fetch(f"https://{HOST}/a") == CONTENT
    assert world.names == [HOST]
    assert world.connected == [(PUBLIC, 443)]
    with pytest.raises(ImageError, match=r"127.0.0.1 is no public address"):
        fetch(f"https://{HOST}/a")
    assert world.connected == [(PUBLIC, 443)]


def test_the_certificate_must_be_the_name_s(server: _Server) -> None:
    world = _World(server)
    with pytest.raises(ImageError, match="cannot be fetched"):
        world.fetcher("other.example.org")("https://other.example.org/a")
    with pytest.raises(ImageError, match="cannot be fetched"):
        world.fetcher(context=ssl.create_default_context())(f"https://{HOST}/a")
    assert server.asked == []


def test_the_next_address_is_tried_where_one_does_not_answer(server: _Server) -> None:
    world = _World(server, ["2606:4700::1111", PUBLIC])
    connect = world.connect

    def only_four(address: tuple[str, int], timeout: float) -> socket.socket:
        if ":" in address[0]:
            raise OSError(101, "Network is unreachable")
        return connect(address, timeout)

    context = ssl.create_default_context(cafile=str(PEM))
    assert URLFetcher([HOST], resolve=world.resolve, connect=only_four, context=context)(f"https://{HOST}/a") == CONTENT
    with pytest.raises(ImageError, match="unreachable"):
        URLFetcher([HOST], resolve=lambda _: ["2606:4700::1111"], connect=only_four)(f"https://{HOST}/a")


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("http://pictures.example.org/b", "only https"),
        ("https://127.0.0.1/b", "allowed_hosts"),
        ("https://evil.net/b", "allowed_hosts"),
        ("file:///etc/passwd", "only https"),
        ("https://elsewhere.example.org/b", "169.254.169.254"),
        ("/again", "redirects"),
    ],
)
def test_redirects_are_checked_hop_by_hop(server: _Server, location: str, complaint: str) -> None:
    world = _World(server, [PUBLIC], [PUBLIC] if location == "/again" else ["169.254.169.254"])
    server.answer = sent(b"", 302, Location=location)
    with pytest.raises(ImageError, match=complaint):
        world.fetcher(HOST, "elsewhere.example.org", max_redirects=2)(f"https://{HOST}/a")
    assert len(server.asked) == (3 if location == "/again" else 1)


def test_a_redirect_that_is_allowed_is_followed(server: _Server) -> None:
    world = _World(server)

    def answer(handler: _Handler) -> None:
        here = handler.headers["Host"] == HOST
        (sent(b"", 307, Location="https://elsewhere.example.org/b") if here else sent(CONTENT))(handler)

    server.answer = answer
    assert world.fetcher("*.example.org")(f"https://{HOST}/a") == CONTENT
    assert world.names == [HOST, "elsewhere.example.org"]


def chunked(*pieces: bytes) -> Callable[[_Handler], None]:
    def answer(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(piece)

    return answer


def endless(handler: _Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(65536))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (sent(CONTENT, Content_Length="99999999999"), "over the limit of 10000"),
        (endless, "over the limit of 10000"),
        (chunked(b"ffffffff\r\n", bytes(300_000)), "over the limit of 10000"),
        (chunked(b"-1\r\n", *[bytes(65536)] * 400), "too much"),
        (sent(CONTENT, Content_Encoding="gzip"), "encoded"),
        (sent(CONTENT, 404), "404"),
        (sent(CONTENT, 206), "206"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n"), "cannot be fetched"),
        (lambda _: None, "cannot be fetched"),
    ],
)
def test_answers_beyond_the_limits_are_refused(
    server: _Server, answer: Callable[[_Handler], None], complaint: str
) -> None:
    def once(handler: _Handler) -> None:
        handler.close_connection = True
        answer(handler)
        handler.connection.close()

    server.answer = once
    with pytest.raises(ImageError, match=complaint):
        _World(server).fetcher(max_bytes=10_000)(f"https://{HOST}/a")


def test_an_answer_that_breaks_off_is_no_answer(server: _Server) -> None:
    def answer(handler: _Handler) -> None:
        sent(CONTENT[:100], Content_Length=str(len(CONTENT)))(handler)
        handler.close_connection = True
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.answer = answer
    with pytest.raises(ImageError, match=r"broke off|cannot be fetched"):
        _World(server).fetcher()(f"https://{HOST}/a")


def dripping(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def slow_headers(handler: _Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(1000):
        handler.wfile.write(b"A: b\r\n")
        time.sleep(0.05)


def silent(handler: _Handler) -> None:
    time.sleep(5)


@pytest.mark.parametrize("answer", [dripping, slow_headers, silent])
def test_the_time_is_that_of_the_whole_transfer(server: _Server, answer: Callable[[_Handler], None]) -> None:
    server.answer = answer
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"not there within 0.5 s"):
        _World(server).fetcher(timeout=0.5)(f"https://{HOST}/a")
    assert time.monotonic() - began < 3


def test_looking_up_a_name_counts(server: _Server) -> None:
    def slow(_: str) -> Sequence[str]:
        time.sleep(3)
        return [PUBLIC]

    began = time.monotonic()
    with pytest.raises(ImageError, match=r"not there within 0.3 s"):
        URLFetcher([HOST], resolve=slow, timeout=0.3)(f"https://{HOST}/a")
    assert time.monotonic() - began < 2

    def unknown(_: str) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(ImageError, match="Name or service"):
        URLFetcher([HOST], resolve=unknown)(f"https://{HOST}/a")


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_hosts": "example.org"},
        {"allowed_hosts": None},
        {"allowed_hosts": [7]},
        {"allowed_hosts": [""]},
        {"allowed_hosts": ["*."]},
        {"allowed_hosts": ["https://example.org"]},
        {"allowed_hosts": ["example.org/a"]},
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"max_bytes": True},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "x"},
        {"timeout": -1},
        {"max_redirects": -1},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        URLFetcher(**{"allowed_hosts": ["example.org"], **settings})


def test_the_system_s_own_names_are_looked_up_and_refused(socket_enabled: None) -> None:
    with pytest.raises(ImageError, match="no public address"):
        URLFetcher(["localhost"])("https://localhost/a")
