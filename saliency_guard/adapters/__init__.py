"""What LangChain, LlamaIndex and the server share; integrations import from here and from `saliency_guard` only."""

from saliency_guard.adapters.bound import bound
from saliency_guard.adapters.citations import Documents, JudgedAnswer, unique_names
from saliency_guard.adapters.prompt_memo import PromptMemo, remember_prompts
from saliency_guard.adapters.report import (
    ReportDetail,
    answer_report,
    attempt_report,
    is_low,
    raised_report,
    reason_of,
    token_report,
    warning,
)
from saliency_guard.adapters.run import (
    Finished,
    RunEvent,
    answered,
    as_streamed,
    finished,
    run_events,
    run_request,
)
from saliency_guard.adapters.scorer import LocalScorer, ScorerModel, fitted_saliency
from saliency_guard.adapters.settings import Request, ServedLVLM
from saliency_guard.adapters.shared_models import clear_model_cache, shared_lvlm
from saliency_guard.adapters.turns import NO_PICTURE, Turn, TurnMessage
from saliency_guard.adapters.unjudged import (
    PICTURE_GONE,
    SAID_SO,
    OnError,
    empty_attempt,
    nothing_to_score,
    scorer_trouble,
    unscored_attempt,
)
from saliency_guard.chat.fetch import Fetch, fetched, is_remote, scheme_of
from saliency_guard.chat.images import MAX_IMAGE_BYTES, data_url_bytes, decoded_base64, file_of_url
from saliency_guard.chat.limits import MAX_TEXT, require_messages
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.chat.tools import (
    Tool,
    ToolCall,
    call_schema,
    closed,
    read_calls,
    requested_schema,
    required_tools,
    takes_tools,
)
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import require_extra, shown
from saliency_guard.guard.decision import NO_ARGUMENTS, not_applicable
from saliency_guard.guard.fields import JudgedText
from saliency_guard.guard.outcome import EMPTY_ANSWER
from saliency_guard.guard.policy import PlannedAttempts
from saliency_guard.guard.retry import PlannedAttempt, weak_words
from saliency_guard.storage import parse_json, read_file
from saliency_guard.worker import in_thread

__all__ = [
    "EMBEDDED",
    "EMPTY_ANSWER",
    "MAX_IMAGE_BYTES",
    "MAX_TEXT",
    "NO_ARGUMENTS",
    "NO_PICTURE",
    "PICTURE_GONE",
    "SAID_SO",
    "Documents",
    "Fetch",
    "Finished",
    "JudgedAnswer",
    "JudgedText",
    "LocalScorer",
    "Messages",
    "OnError",
    "PlannedAttempt",
    "PlannedAttempts",
    "PreparedPrompt",
    "PromptMemo",
    "ReportDetail",
    "Request",
    "RunEvent",
    "ScorerModel",
    "ServedLVLM",
    "Tool",
    "ToolCall",
    "Turn",
    "TurnMessage",
    "answer_report",
    "answered",
    "as_streamed",
    "attempt_report",
    "bound",
    "call_schema",
    "clear_model_cache",
    "closed",
    "data_url_bytes",
    "decoded_base64",
    "empty_attempt",
    "fetched",
    "file_of_url",
    "finished",
    "fitted_saliency",
    "in_thread",
    "is_low",
    "is_remote",
    "not_applicable",
    "nothing_to_score",
    "parse_json",
    "raised_report",
    "read_calls",
    "read_file",
    "reason_of",
    "remember_prompts",
    "requested_schema",
    "require_extra",
    "require_messages",
    "required_tools",
    "run_events",
    "run_request",
    "scheme_of",
    "scorer_trouble",
    "shared_lvlm",
    "shown",
    "takes_tools",
    "token_report",
    "unique_names",
    "unscored_attempt",
    "warning",
    "weak_words",
]
