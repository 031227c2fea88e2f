"""A model whose weights are brought in for each pass works like one whose weights are there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_processors
from torch import nn

from saliency_guard import LVLM, LocoREConfig, ModelError, SGRSConfig, score_answer
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.session import Session


def offloaded(model: Any) -> Any:
    """As accelerate has it: every module's own weights are there only while it runs."""
    model._hf_hook = SimpleNamespace(execution_device="cpu")
    for module in [part for part in model.modules() if list(part.parameters(recurse=False))]:
        kept = dict(module.named_parameters(recurse=False))
        away = {name: nn.Parameter(value.to("meta"), requires_grad=False) for name, value in kept.items()}

        def bring(module: nn.Module, _: Any, kept: dict[str, Any] = kept) -> None:
            module._parameters.update(kept)

        def take(module: nn.Module, _: Any, __: Any, away: dict[str, Any] = away) -> None:
            module._parameters.update(away)

        module.register_forward_pre_hook(bring)
        module.register_forward_hook(take)
        take(module, None, None)
    return model


def test_scores_and_tokens_are_the_same() -> None:
    case = tiny.build("llava-gqa")
    locore = LocoREConfig(beta=0.4)

    def results() -> tuple[list[float], list[int]]:
        scores = score_answer(case.model, case.inputs, tiny.ANSWER, locore=locore)
        decoder = Decoder(Session(case.model, case.inputs, locore=locore), sgrs=SGRSConfig(alpha=0.9))
        return scores.saliency[1:].tolist(), [token.token_id for token in decoder.tokens(7)]

    before = results()
    offloaded(case.model)
    assert case.model.device.type == "meta"
    assert results() == before


def test_messages_go_where_the_weights_go() -> None:
    lvlm = tiny_processors.llava(tiny_processors.whole_words())
    messages = chat(tiny_processors.picture(), "Is there a cat")
    plain = lvlm.generate(messages, max_new_tokens=3, locore=LocoREConfig())
    away = LVLM(offloaded(lvlm.model), lvlm.processor).generate(messages, max_new_tokens=3, locore=LocoREConfig())
    assert [token.token_id for token in away.tokens] == [token.token_id for token in plain.tokens]


def test_a_model_without_weights_is_refused() -> None:
    case = tiny.build("llava-gqa")
    with pytest.raises(ModelError, match="no weights"):
        score_answer(case.model.to("meta"), case.inputs, tiny.ANSWER)
