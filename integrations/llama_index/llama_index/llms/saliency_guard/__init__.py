"""saliency-guard for LlamaIndex: an LLM with grounding scores, and guards for the answers of any other."""

from llama_index.llms.saliency_guard._collecting import CollectedCall, GroundingCollector, collect_grounding
from llama_index.llms.saliency_guard.agents import GroundedAgentMixin
from llama_index.llms.saliency_guard.base import SaliencyGuardedLVLM
from llama_index.llms.saliency_guard.evaluator import GroundingEvaluator
from llama_index.llms.saliency_guard.events import GroundingRejectionEvent, GroundingRetryEvent, GroundingScoreEvent
from llama_index.llms.saliency_guard.query_engine import GroundedQueryEngine

__version__ = "0.2.0"
__all__ = [
    "CollectedCall",
    "GroundedAgentMixin",
    "GroundedQueryEngine",
    "GroundingCollector",
    "GroundingEvaluator",
    "GroundingRejectionEvent",
    "GroundingRetryEvent",
    "GroundingScoreEvent",
    "SaliencyGuardedLVLM",
    "__version__",
    "collect_grounding",
]
