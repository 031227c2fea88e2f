"""saliency-guard: run a local vision-language model and know, for every token, what it rests on.

The public names are imported on first use: importing this package does not import torch or transformers, so that
``saliency-guard --help`` answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The same names for type checkers and editors; a test compares the two.
    from saliency_guard.adapters.shared_models import clear_model_cache, shared_lvlm
    from saliency_guard.answer import (
        Claim,
        GroundedAnswer,
        RejectedCandidate,
        RepairedAnswer,
        Step,
        TokenGrounding,
        Usage,
    )
    from saliency_guard.batching.scheduler import BatchingStatistics
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.guarantee import NoGuarantee, RiskGuarantee
    from saliency_guard.calibration.monitor import RiskMonitor
    from saliency_guard.calibration.records import GroundingRecord, LabelledClaim, Records
    from saliency_guard.calibration.results import CalibrationReport, Judgement
    from saliency_guard.calibration.token_filter import TokenFilter
    from saliency_guard.chat.fetch import URLFetcher
    from saliency_guard.claims.repair import RepairGuarantee
    from saliency_guard.decoding.custom_generate import SGRSOutput, sgrs_generate
    from saliency_guard.decoding.sgrs import SGRSConfig
    from saliency_guard.errors import (
        CalibrationMismatchError,
        CancelledError,
        ConfigError,
        ContextLengthError,
        DeadlineError,
        ImageError,
        InputError,
        MessageError,
        MissingExtraError,
        ModelError,
        NonFiniteError,
        QueueFullError,
        SaliencyGuardError,
        UnjudgedError,
        UnsupportedModelError,
    )
    from saliency_guard.guard.outcome import Attempt, GuardOutcome, LowGroundingError
    from saliency_guard.guard.policy import GuardPolicy
    from saliency_guard.guard.retry import RetryPlan
    from saliency_guard.guard.rules import SignalRule
    from saliency_guard.lvlm import LVLM
    from saliency_guard.models.locore import LocoREConfig
    from saliency_guard.saliency.config import SaliencyConfig
    from saliency_guard.saliency.maps import SaliencyMap, saliency_map
    from saliency_guard.saliency.scoring import SaliencyScores, score_answer
    from saliency_guard.signals.verification import VerifyConfig

__version__ = "0.2.0"

__all__ = [
    "LVLM",
    "Attempt",
    "BatchingStatistics",
    "CalibrationMismatchError",
    "CalibrationReport",
    "Calibrator",
    "CancelledError",
    "Claim",
    "ConfigError",
    "ContextLengthError",
    "DeadlineError",
    "GroundedAnswer",
    "GroundingRecord",
    "GuardOutcome",
    "GuardPolicy",
    "ImageError",
    "InputError",
    "Judgement",
    "LabelledClaim",
    "LocoREConfig",
    "LowGroundingError",
    "MessageError",
    "MissingExtraError",
    "ModelError",
    "NoGuarantee",
    "NonFiniteError",
    "QueueFullError",
    "Records",
    "RejectedCandidate",
    "RepairGuarantee",
    "RepairedAnswer",
    "RetryPlan",
    "RiskGuarantee",
    "RiskMonitor",
    "SGRSConfig",
    "SGRSOutput",
    "SaliencyConfig",
    "SaliencyGuardError",
    "SaliencyMap",
    "SaliencyScores",
    "SignalRule",
    "Step",
    "TokenFilter",
    "TokenGrounding",
    "URLFetcher",
    "UnjudgedError",
    "UnsupportedModelError",
    "Usage",
    "VerifyConfig",
    "__version__",
    "clear_model_cache",
    "saliency_map",
    "score_answer",
    "sgrs_generate",
    "shared_lvlm",
]

_MODULES: dict[str, tuple[str, ...]] = {
    "adapters.shared_models": ("clear_model_cache", "shared_lvlm"),
    "answer": ("Claim", "GroundedAnswer", "RejectedCandidate", "RepairedAnswer", "Step", "TokenGrounding", "Usage"),
    "batching.scheduler": ("BatchingStatistics",),
    "calibration.calibrator": ("Calibrator",),
    "calibration.guarantee": ("NoGuarantee", "RiskGuarantee"),
    "calibration.monitor": ("RiskMonitor",),
    "calibration.records": ("GroundingRecord", "LabelledClaim", "Records"),
    "calibration.results": ("CalibrationReport", "Judgement"),
    "calibration.token_filter": ("TokenFilter",),
    "chat.fetch": ("URLFetcher",),
    "claims.repair": ("RepairGuarantee",),
    "decoding.custom_generate": ("SGRSOutput", "sgrs_generate"),
    "decoding.sgrs": ("SGRSConfig",),
    "errors": (
        "CalibrationMismatchError",
        "CancelledError",
        "ConfigError",
        "ContextLengthError",
        "DeadlineError",
        "ImageError",
        "InputError",
        "MessageError",
        "MissingExtraError",
        "ModelError",
        "NonFiniteError",
        "QueueFullError",
        "SaliencyGuardError",
        "UnjudgedError",
        "UnsupportedModelError",
    ),
    "guard.outcome": ("Attempt", "GuardOutcome", "LowGroundingError"),
    "guard.policy": ("GuardPolicy",),
    "guard.retry": ("RetryPlan",),
    "guard.rules": ("SignalRule",),
    "lvlm": ("LVLM",),
    "models.locore": ("LocoREConfig",),
    "saliency.config": ("SaliencyConfig",),
    "saliency.maps": ("SaliencyMap", "saliency_map"),
    "saliency.scoring": ("SaliencyScores", "score_answer"),
    "signals.verification": ("VerifyConfig",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # For a type checker it would make every misspelt name an `Any`.

    def __getattr__(name: str) -> Any:
        """Import a public name on first use, and keep it."""
        if name not in _MODULE_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
