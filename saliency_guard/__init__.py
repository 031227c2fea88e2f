"""saliency-guard: run a local vision-language model and know, for every token, what it rests on."""

from saliency_guard.calibration import CalibrationReport, Calibrator, Judgement
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
from saliency_guard.filtering import TokenFilter
from saliency_guard.generate import SGRSOutput, sgrs_generate
from saliency_guard.grounding import GroundedAnswer, RejectedCandidate, Step, TokenGrounding, Usage
from saliency_guard.locore import LocoREConfig
from saliency_guard.lvlm import LVLM
from saliency_guard.maps import SaliencyMap, saliency_map
from saliency_guard.monitor import RiskMonitor
from saliency_guard.outcome import Attempt, GuardOutcome, LowGroundingError
from saliency_guard.policy import GuardPolicy
from saliency_guard.promises import NoPromise, Promise
from saliency_guard.records import GroundingRecord, LabelledMention, Records
from saliency_guard.retries import RetryPlan
from saliency_guard.rules import SignalRule
from saliency_guard.saliency import SaliencyConfig, SaliencyScores
from saliency_guard.scoring import score_answer
from saliency_guard.sgrs import SGRSConfig
from saliency_guard.sharing import forget_shared, shared_lvlm

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
    "NoPromise",
    "NonFiniteError",
    "Promise",
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
