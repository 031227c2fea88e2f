from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run

from saliency_guard import GuardPolicy
from saliency_guard.cli.serve import _policy
from saliency_guard.server import API_KEY_VARIABLE


def test_other_machines_are_served_only_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    assert API_KEY_VARIABLE in run("serve", "--host", "0.0.0.0", code=2)  # noqa: S104 - what is tested


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--fallback", "No."), "--policy"),
        (("--report", "all"), "report"),
        (("--alpha", "0.5"), "--sgrs"),
        (("--timeout", "0"), "timeout"),
        (("--policy", "no-such-file.json"), "no-such-file.json"),
        (("--calibrator", "no-such-file.json"), "no-such-file.json"),
        (("--image-host", "http://x/y"), "allowed_hosts"),
    ],
)
def test_wrong_options_are_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problem in run("serve", *options, code=2)


def test_a_policy_comes_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    GuardPolicy(min_grounding=0.7, on_low="fallback").save(path)
    policy = _policy(path, "I can not tell.")
    assert policy.min_grounding == 0.7
    assert policy.fallback(None, ()) == "I can not tell."
    assert _policy(path, None).fallback is None
