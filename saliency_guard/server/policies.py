"""Which policy decides on an answer: the server's, or the request's own where it may bring one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from saliency_guard.adapters.report import ReportDetail
from saliency_guard.errors import ConfigError
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.server.errors import invalid
from saliency_guard.server.settings import ServerSettings

_PARAM = "grounding_policy"
_OF_THE_SERVER = ("calibrator", "guarantee", "stop", "wait", "before", "after", "before_sleep")
"""Settings that are the server's alone: what judges the answers, and what is code."""
_MOST_RETRIES = 8
_MOST_RULES = 32


def policy_of(given: Mapping[str, Any] | None, settings: ServerSettings) -> GuardPolicy | None:
    """The policy of a request.

    Args:
        given: what the request says: settings as of `GuardPolicy`, ``fallback`` being a text.
        settings: of the server, which may have a policy for all requests.

    Raises:
        RequestError: if the settings are wrong, or the request may not bring any.
    """
    if given is None:
        return settings.policy
    if settings.policy is not None and not settings.request_policies:
        msg = "this server has a policy for all requests: leave grounding_policy out"
        raise invalid(msg, _PARAM, code="policy_is_set")
    refused = next((name for name in _OF_THE_SERVER if name in given), None)
    if refused is not None:
        msg = f"grounding_policy.{refused} is the server's to set: leave it out"
        raise invalid(msg, _PARAM)
    values = dict(given)
    text = values.pop("fallback", None)
    if text is not None:
        if not isinstance(text, str):
            msg = "grounding_policy.fallback must be a text"
            raise invalid(msg, _PARAM)
        values["fallback"] = FixedFallback(text)
    if isinstance(values.get("rules"), list) and len(values["rules"]) > _MOST_RULES:
        msg = f"grounding_policy has more than {_MOST_RULES} rules"
        raise invalid(msg, _PARAM)
    try:
        policy = GuardPolicy(**values)
    except (ConfigError, ValidationError, TypeError) as error:
        msg = f"grounding_policy: {error}"
        raise invalid(msg, _PARAM) from error
    if policy.max_retries > _MOST_RETRIES:
        msg = f"grounding_policy.max_retries={policy.max_retries} is above {_MOST_RETRIES}"
        raise invalid(msg, _PARAM)
    if policy.on_low == "fallback" and policy.fallback is None:
        msg = 'on_low="fallback" needs fallback, the text to give out instead'
        raise invalid(msg, _PARAM)
    return policy


class FixedFallback:
    """A fallback that is always the same text.

    Args:
        text: the text.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, *_: object) -> str:
        """The text."""
        return self._text


def report_of(wanted: ReportDetail | None, settings: ServerSettings) -> ReportDetail:
    """How much a report holds: the texts of refused answers only where the server shows them.

    Args:
        wanted: by the request.
        settings: of the server.

    Raises:
        RequestError: if it wants them, and the server does not show them.
    """
    if wanted == "full" and settings.report != "full":
        msg = "this server does not show refused answers: grounding_report is 'summary' or 'tokens'"
        raise invalid(msg, "grounding_report")
    return wanted or settings.report
