"""Answers held to a JSON schema: a token that would leave it is not drawn. llguidance keeps the grammar."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from saliency_guard.errors import ConfigError, require_extra, shown

_CLOSING = ('"', "]", "}")
_STYLE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_TOKENIZERS: weakref.WeakKeyDictionary[Any, dict[int, Any]] = weakref.WeakKeyDictionary()


class SchemaMask:
    """A logits processor for one answer: minus infinity for what a JSON schema does not allow next.

    It may be called in any order: it follows drafts that are taken back. Where the model would end its answer and may
    not yet, the probability of the end goes to the tokens that close a string, a list or an object: models that were
    not trained on JSON would never close a string otherwise.

    Args:
        schema: the JSON schema.
        tokenizer: the model's, a fast one.
        eos: ids that end an answer.
        prompt_length: ids before the answer.

    Raises:
        ConfigError: if the schema cannot be used, or the tokenizer is not a fast one.
        MissingExtraError: if llguidance is not installed.
    """

    def __init__(self, schema: Mapping[str, Any], tokenizer: Any, eos: frozenset[int], prompt_length: int) -> None:
        require_extra("llguidance", "llguidance", "structured")
        self._grammar = _grammar(schema)
        self._tokenizer = tokenizer
        self._eos = sorted(eos)
        self._prompt_length = prompt_length
        self._matcher: Any = None
        self._taken: list[int] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores [1, V]`` of what follows ``input_ids [1, T]``, masked."""
        output = input_ids[0, self._prompt_length :].tolist()
        # In a batch a row may be asked for what follows its end: again the end.
        self._follow(list(takewhile(lambda token: token not in self._eos, output)), scores.shape[-1])
        allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
        if not self._matcher.is_stopped():
            allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8) != 0
        allowed[self._eos] = self._matcher.is_accepting()
        return self._closing(scores, allowed).masked_fill(~allowed.to(scores.device), -torch.inf)

    def _closing(self, scores: Tensor, allowed: Tensor) -> Tensor:
        ids = [self._tokenizer.convert_tokens_to_ids(sign) for sign in _CLOSING]
        closing = next((token for token in ids if token is not None and allowed[token]), None)
        if closing is None or allowed[self._eos].any():
            return scores
        moved = scores.clone()
        moved[0, closing] = torch.logsumexp(scores[0, [closing, *self._eos]], dim=0)
        return moved

    def _follow(self, output: list[int], vocabulary: int) -> None:
        """Bring the grammar to where the output is."""
        from llguidance import LLMatcher  # noqa: PLC0415 - an extra

        if self._matcher is None:
            self._matcher = LLMatcher(_tokenizer(self._tokenizer, vocabulary, self._eos), self._grammar, log_level=0)
        pairs = zip(self._taken, output, strict=False)
        same = next(
            (place for place, (taken, new) in enumerate(pairs) if taken != new), min(len(self._taken), len(output))
        )
        if same < len(self._taken):
            self._matcher.rollback(len(self._taken) - same)
        self._taken = output
        if output[same:] and not self._matcher.consume_tokens(output[same:]):
            msg = f"the answer left its JSON schema: {self._matcher.get_error().splitlines()[0]}"
            raise ConfigError(msg)


def _grammar(schema: Mapping[str, Any]) -> str:
    from llguidance import LLMatcher  # noqa: PLC0415 - an extra

    if not isinstance(schema, Mapping):
        msg = f"json_schema must be a JSON schema as a dict, not {shown(schema)}"
        raise ConfigError(msg)
    try:
        grammar: str = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=_STYLE)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"json_schema cannot be used: {error}"
        raise ConfigError(msg) from error
    problem = LLMatcher.validate_grammar(grammar)
    if problem:
        msg = f"json_schema cannot be used: {problem}"
        raise ConfigError(msg)
    return grammar


def _tokenizer(tokenizer: Any, vocabulary: int, eos: list[int]) -> Any:
    """The tokenizer as llguidance knows it; made once for as many logits as the model has."""
    from llguidance import LLTokenizer  # noqa: PLC0415 - an extra

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        msg = "json_schema needs a fast tokenizer, one of the tokenizers library"
        raise ConfigError(msg)
    made = _TOKENIZERS.setdefault(tokenizer, {})
    if vocabulary not in made:
        made[vocabulary] = LLTokenizer(backend.to_str(), n_vocab=vocabulary, eos_token=eos)
    return made[vocabulary]
