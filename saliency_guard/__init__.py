"""saliency-guard: run a local vision-language model and know, for every token, what it rests on."""

from saliency_guard.errors import (
    ConfigError,
    ContextLengthError,
    ImageError,
    InputError,
    MessageError,
    MissingExtraError,
    ModelError,
    NonFiniteError,
    SaliencyGuardError,
    UnsupportedModelError,
)
from saliency_guard.generate import SGRSOutput, sgrs_generate
from saliency_guard.grounding import GroundedAnswer, RejectedCandidate, Step, TokenGrounding, Usage
from saliency_guard.locore import LocoREConfig
from saliency_guard.lvlm import LVLM
from saliency_guard.maps import SaliencyMap, saliency_map
from saliency_guard.saliency import SaliencyConfig, SaliencyScores
from saliency_guard.scoring import score_answer
from saliency_guard.sgrs import SGRSConfig

__version__ = "0.1.0"

__all__ = [
    "LVLM",
    "ConfigError",
    "ContextLengthError",
    "GroundedAnswer",
    "ImageError",
    "InputError",
    "LocoREConfig",
    "MessageError",
    "MissingExtraError",
    "ModelError",
    "NonFiniteError",
    "RejectedCandidate",
    "SGRSConfig",
    "SGRSOutput",
    "SaliencyConfig",
    "SaliencyGuardError",
    "SaliencyMap",
    "SaliencyScores",
    "Step",
    "TokenGrounding",
    "UnsupportedModelError",
    "Usage",
    "__version__",
    "saliency_map",
    "score_answer",
    "sgrs_generate",
]
