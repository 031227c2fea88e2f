"""saliency-guard: run a local vision-language model and know, for every token, what it rests on."""

from saliency_guard.adapters.shared_models import forget_shared, shared_lvlm
from saliency_guard.answer import GroundedAnswer, RejectedCandidate, Step, TokenGrounding, Usage
from saliency_guard.calibration.calibrator import CalibrationReport, Calibrator, Judgement
from saliency_guard.calibration.guarantee import NoGuarantee, RiskGuarantee
from saliency_guard.calibration.monitor import RiskMonitor
from saliency_guard.calibration.records import GroundingRecord, LabelledMention, Records
from saliency_guard.calibration.token_filter import TokenFilter
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
    SaliencyGuardError,
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

__version__ = "0.1.0"

__all__ = [
    "LVLM",
    "Attempt",
    "CalibrationMismatchError",
    "CalibrationReport",
    "Calibrator",
    "CancelledError",
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
    "LabelledMention",
    "LocoREConfig",
    "LowGroundingError",
    "MessageError",
    "MissingExtraError",
    "ModelError",
    "NoGuarantee",
    "NonFiniteError",
    "RiskGuarantee",
    "Records",
    "RejectedCandidate",
    "RetryPlan",
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
    "UnsupportedModelError",
    "Usage",
    "__version__",
    "forget_shared",
    "saliency_map",
    "score_answer",
    "sgrs_generate",
    "shared_lvlm",
]
