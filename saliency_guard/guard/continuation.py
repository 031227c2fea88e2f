"""A retry that keeps what holds of an answer, and asks the model only to go on after it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat import detokenize
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.decoding.options import DEFAULTS
from saliency_guard.errors import ConfigError, UnjudgedError
from saliency_guard.lvlm import LVLM
from saliency_guard.models.inputs import ANSWER_KINDS, extended, unpadded

NOT_WITH = ("sgrs", "locore", "json_schema", "tools")
"""Options that look back at an answer from its first token on; of a tool call no sentence is kept."""


def kept_text(answer: GroundedAnswer, threshold: float) -> str:
    """What holds of an answer, in whole sentences; empty where nothing does, or no single claim fails.

    Args:
        answer: that was refused.
        threshold: claims with a grounding below it do not hold.
    """
    try:
        repaired = answer.repaired(threshold=threshold)
    except UnjudgedError:
        return ""
    return repaired.text if repaired.dropped else ""


def require_continuing(lvlm: LVLM, options: Mapping[str, Any]) -> None:
    """Check that answers of a model can be continued.

    Args:
        lvlm: the model.
        options: of `LVLM.generate`.

    Raises:
        ConfigError: if an option looks back at the answer, or the model does not take its own answer for a prompt.
    """
    used = next((name for name in NOT_WITH if options.get(name) is not None), None)
    if used is not None:
        msg = (
            f'retry.again="failed" continues an answer, which {used} would take for a part of the prompt: set '
            f'again="whole", or leave {used} out'
        )
        raise ConfigError(msg)
    if lvlm.model.config.model_type in ANSWER_KINDS:
        msg = (
            f'retry.again="failed" continues an answer, and {lvlm.model_id} would read what is kept of it both ways, '
            'as its prompt: set again="whole"'
        )
        raise ConfigError(msg)


def continued(
    lvlm: LVLM, prompt: PreparedPrompt, kept: str, options: Mapping[str, Any], cancel: threading.Event
) -> GroundedAnswer:
    """An answer that begins with a text and is judged as one.

    Args:
        lvlm: goes on after the text, and judges all of it.
        prompt: what is answered.
        kept: the text.
        options: of `LVLM.generate`; ``max_new_tokens`` is for all of the answer.
        cancel: stops the work once it is set.
    """
    ids = detokenize.encode(lvlm.tokenizer, kept).ids
    longer = PreparedPrompt(
        extended(unpadded(prompt.inputs), ids),
        replace(prompt.layout, length=prompt.length + len(ids)),
        prompt.conversation,
    )
    left = options.get("max_new_tokens", DEFAULTS["max_new_tokens"]) - len(ids)
    plain = {"saliency": None, "signals": (), "verify": None, "max_new_tokens": max(1, left)}
    more = lvlm.generate(longer, cancel=cancel, **cast("Any", {**options, **plain}))
    # A stop string may have cut a token in two: then the text is the answer.
    whole = f"{kept}{more.text}" if options.get("stop") else [*ids, *(token.token_id for token in more.tokens)]
    scoring = {name: options[name] for name in ("saliency", "signals", "verify") if name in options}
    answer = lvlm.score(prompt, whole, cancel=cancel, **cast("Any", scoring))
    return answer.model_copy(update={"finish_reason": more.finish_reason})
