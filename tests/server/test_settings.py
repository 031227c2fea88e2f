from __future__ import annotations

from typing import Any

import pytest

from saliency_guard import LVLM, ConfigError
from saliency_guard.server import API_KEY_VARIABLE, ServerSettings
from saliency_guard.server.settings import is_loopback


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "secret")
    settings = ServerSettings(host="0.0.0.0")  # noqa: S104 - what is tested
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "secret"
    assert "secret" not in repr(settings)
    assert "api_key" not in settings.model_dump()


def test_without_a_token_only_this_machine_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    for host in ("127.0.0.1", "localhost", "::1", "127.3.2.1"):
        assert ServerSettings(host=host).api_key is None
    for host in ("0.0.0.0", "::", "", "192.168.1.2", "example.org", "127.0.0.1.example.org"):  # noqa: S104
        with pytest.raises(ConfigError, match=API_KEY_VARIABLE):
            ServerSettings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - what is tested
def test_an_empty_token_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "")
    with pytest.raises(ConfigError, match=f"the token is empty.*unset {API_KEY_VARIABLE}"):
        ServerSettings(host=host)
    assert ServerSettings(api_key=None).api_key is None


@pytest.mark.parametrize("key", ["two words", "tab\t", "line\n", "schlüssel", "\x7f"])
def test_a_token_that_no_header_holds_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match="printable ASCII"):
        ServerSettings()


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"max_running": 0},
        {"max_waiting": -1},
        {"timeout": 0},
        {"shutdown_timeout": float("inf")},
        {"image_hosts": ("http://example.org/x",)},
        {"report": "all"},
        {"unknown": 1},
    ],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServerSettings(**wrong)


def test_pictures_are_fetched_from_named_hosts_alone() -> None:
    assert ServerSettings().fetch_image is None
    assert ServerSettings(image_hosts=("example.org",)).fetch_image is not None


def test_a_model_is_loaded_with_the_server_s_limits(lvlm: LVLM) -> None:
    assert ServerSettings(lvlm=lvlm).loaded() is lvlm
    assert lvlm.calibrator is not None
    settings = ServerSettings(calibrator=lvlm.calibrator, max_image_bytes=1000)
    loaded = settings.loaded()
    assert loaded.calibrator is lvlm.calibrator
    assert loaded.with_calibrator(None).calibrator is None


def test_what_is_loopback() -> None:
    assert is_loopback("[::1]")
    assert not is_loopback("localhost.example.org")
