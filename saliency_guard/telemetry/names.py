"""Names of spans, attributes and metrics.

The GenAI conventions are still in development, and OpenTelemetry's constants for them are deprecated: the names are
our own literals. Those of OpenInference are what Phoenix and others read.
"""

from __future__ import annotations

PROVIDER = "saliency_guard"

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_OPTIONS = {
    "max_new_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
}
"""Option of `GenerationOptions` -> attribute."""
REQUEST_STOP = "gen_ai.request.stop_sequences"
OUTPUT_TYPE = "gen_ai.output.type"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - an attribute's name
ERROR_TYPE = "error.type"

EVALUATION_EVENT = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"

SPAN_KIND = "openinference.span.kind"
LLM_MODEL = "llm.model_name"
LLM_PROMPT_TOKENS = "llm.token_count.prompt"
LLM_COMPLETION_TOKENS = "llm.token_count.completion"
LLM_TOTAL_TOKENS = "llm.token_count.total"
LLM_PARAMETERS = "llm.invocation_parameters"
INPUT_VALUE = "input.value"
INPUT_MIME_TYPE = "input.mime_type"
OUTPUT_VALUE = "output.value"
OPENINFERENCE_EVALUATION = {
    "name": "evaluation.name",
    "score": "evaluation.score",
    "label": "evaluation.label",
    "explanation": "evaluation.explanation",
}
"""Field of `Evaluation` -> attribute."""
ANNOTATOR_KIND = "evaluation.annotator_kind"

SCORE = "saliency_guard.score"
CALIBRATED = "saliency_guard.calibrated"
REASON = "saliency_guard.reason"
CLAIMS = "saliency_guard.claims"
DECISION = "saliency_guard.decision"
THRESHOLD = "saliency_guard.threshold"
ATTEMPTS = "saliency_guard.attempts"
MAX_RETRIES = "saliency_guard.policy.max_retries"
ON_LOW = "saliency_guard.policy.on_low"
IS_ATTEMPT = "saliency_guard.is_attempt"
CANCELLED = "saliency_guard.cancelled"
ATTEMPT_EVENT = "saliency_guard.attempt"

DURATION = "gen_ai.client.operation.duration"
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105 - a metric's name
TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105 - a metric's name
GROUNDING = "saliency_guard.grounding"
ANSWERS = "saliency_guard.answers"
DECISIONS = "saliency_guard.decisions"
