"""States collected by hooks are those that transformers gives when it is asked for them."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from saliency_guard.models.layer_states import is_asked, listening


def test_states_are_transformers_own(case: tiny.Case) -> None:
    assert is_asked(case.model)
    states: list[Tensor] = []
    with torch.no_grad(), listening(case.model, states):
        case.model(**case.inputs)
    with torch.no_grad():
        expected = case.model(**case.inputs, output_hidden_states=True).hidden_states
    assert len(states) == len(expected) == case.model.config.get_text_config().num_hidden_layers + 1
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(states, expected, strict=True))


def test_no_hook_is_left_after_an_error(llava: tiny.Case) -> None:
    decoder = llava.model.get_decoder()
    states: list[Tensor] = []
    with pytest.raises(KeyError), listening(llava.model, states):
        raise KeyError
    llava.model(**llava.inputs)
    assert states == []
    assert not decoder.norm._forward_hooks
    assert not any(layer._forward_pre_hooks for layer in decoder.layers)
