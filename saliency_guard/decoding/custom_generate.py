"""SGRS and LocoRE as a ``custom_generate`` callable for transformers' own ``model.generate``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.cache_utils import QuantizedCache
from transformers.generation.utils import GenerateDecoderOnlyOutput, GenerationMixin

from saliency_guard.answer import TokenGrounding
from saliency_guard.decoding.decoder import DecodedToken, Decoder, eos_ids
from saliency_guard.decoding.sampling import are_stateless
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.errors import ConfigError, InputError
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig


@dataclass
class SGRSOutput(GenerateDecoderOnlyOutput):
    """What `sgrs_generate` returns with ``return_dict_in_generate``: transformers' output, and the scores.

    Attributes:
        saliency: ``[1, N]`` Eq. 6 of each generated token, NaN for the first.
        tokens: every generated token with its threshold, shares and rejections; their texts are empty.
    """

    saliency: Tensor | None = None
    tokens: tuple[TokenGrounding, ...] | None = None


# What `generate` prepares for its own loop and this one does for itself.
_CACHES = ("past_key_values", "cache")  # From transformers 5.24 on it is called ``cache``.
_PREPARED = frozenset({*_CACHES, "cache_position", "logits_to_keep", "use_cache"})


def sgrs_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    sgrs: SGRSConfig | None = SGRSConfig(),
    saliency: SaliencyConfig | None = SaliencyConfig(),
    locore: LocoREConfig | None = None,
    streamer: Any = None,
    **model_kwargs: Any,
) -> SGRSOutput | Tensor:
    """SGRS and LocoRE inside ``model.generate(**inputs, custom_generate=sgrs_generate, sgrs=..., locore=...)``.

    Logits processors, stopping criteria, ``max_new_tokens``, ``min_new_tokens``, ``eos_token_id``,
    ``do_sample`` with its warpers, the streamer and ``return_dict_in_generate`` mean what they mean in
    `generate`. Processors are called while no other thread is kept from the model, so they may wait for one. The
    ``stop_strings`` of `generate` do not reach a callable ``custom_generate``: pass a ``StopStringCriteria``
    instead. With ``do_sample`` the random numbers follow ``torch.manual_seed``.

    Args:
        model: passed by `generate`, as the next four.
        input_ids: ``[1, P]``.
        logits_processor: prepared by `generate`.
        stopping_criteria: prepared by `generate`.
        generation_config: prepared by `generate`.
        sgrs: settings of SGRS; None is off.
        saliency: target layers, norm, history; None (without SGRS) scores nothing.
        locore: settings of LocoRE; None is off.
        streamer: of transformers; found by itself when given to `generate`.
        **model_kwargs: the processor's outputs and what `generate` prepared.

    Returns:
        ``[1, P + N]`` ids, or `SGRSOutput` with ``return_dict_in_generate``.

    Raises:
        ConfigError: for beams or several return sequences, and for a quantised cache.
        InputError: for more than one prompt, and for embeddings in place of token ids.
    """
    if generation_config.num_beams != 1 or generation_config.num_return_sequences != 1:
        msg = "sgrs_generate decodes one sequence: num_beams and num_return_sequences must be 1"
        raise ConfigError(msg)
    if generation_config.output_attentions or generation_config.output_hidden_states:
        msg = "sgrs_generate returns no attentions or hidden states; saliency_map gives the attention of one token"
        raise ConfigError(msg)
    if any(model_kwargs.get(name) is not None and model_kwargs[name].get_seq_length() > 0 for name in _CACHES):
        msg = "sgrs_generate starts from the whole prompt: do not pass a cache (past_key_values) that is already filled"
        raise ConfigError(msg)
    if generation_config.cache_implementation == "quantized" or any(
        isinstance(model_kwargs.get(name), QuantizedCache) for name in _CACHES
    ):
        msg = (
            "sgrs_generate reads keys and values as the model makes them, and gradients go through them: leave the "
            'quantised cache (cache_implementation="quantized") out'
        )
        raise ConfigError(msg)
    if model_kwargs.get("inputs_embeds") is not None:
        msg = "sgrs_generate reads token ids: this generate was given, or has made of its own, embeddings instead"
        raise InputError(msg)
    streamer = streamer if streamer is not None else _streamer_of_generate()
    decoder = Decoder(
        session=Session(model, _first_inputs(model, input_ids, model_kwargs), locore=locore),
        sgrs=sgrs,
        saliency=saliency,
        processor=logits_processor if len(logits_processor) else None,  # type: ignore[arg-type]
        seed=int(torch.randint(2**62, ())) if generation_config.do_sample else None,
        eos=eos_ids(generation_config.eos_token_id),
        prefix=input_ids,
        draft_length=None if are_stateless(logits_processor) else 1,
    )
    keep_scores = generation_config.return_dict_in_generate and generation_config.output_scores
    sequence = input_ids
    scores: tuple[Tensor, ...] = ()
    tokens: list[DecodedToken] = []
    for token in decoder.tokens(generation_config.max_length - input_ids.shape[1]):
        tokens.append(token)
        new = torch.tensor([token.token_id], device=input_ids.device)
        sequence = torch.cat([sequence, new[None]], dim=1)
        if streamer is not None:
            streamer.put(new.cpu())
        if keep_scores:
            scores = (*scores, token.scores[None])
        if bool(stopping_criteria(sequence, scores or None).all()):
            break
    if streamer is not None:
        streamer.end()
    if not generation_config.return_dict_in_generate:
        return sequence
    return SGRSOutput(
        sequences=sequence,  # type: ignore[arg-type]
        scores=scores if keep_scores else None,  # type: ignore[arg-type]
        logits=tuple(token.logits[None].clone() for token in tokens) if generation_config.output_logits else None,  # type: ignore[arg-type]
        saliency=torch.tensor(
            [[torch.nan if s is None else s for s in (token.grounding.saliency for token in tokens)]]
        ),
        tokens=tuple(token.grounding for token in tokens),
    )


def _first_inputs(model: PreTrainedModel, input_ids: Tensor, model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What `generate` would have the model read first: the pictures it encoded, the positions it counted."""
    given = {name: value for name, value in model_kwargs.items() if name not in _PREPARED}
    generating: Any = model
    inputs: dict[str, Any] = generating.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **given)
    return {name: value for name, value in inputs.items() if name not in _PREPARED and value is not None}


def _streamer_of_generate() -> Any:
    """The streamer that was given to `generate`, which does not hand it to a callable ``custom_generate``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _GENERATE_CODE:
        frame = frame.f_back  # A wrapper may stand between.
    return None if frame is None else frame.f_locals.get("streamer")


def _unwrapped(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


_GENERATE_CODE = _unwrapped(GenerationMixin.generate).__code__
