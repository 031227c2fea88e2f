"""The logit lens of the last layer is the model's own output."""

from __future__ import annotations

import tiny
import torch

from saliency_guard.models.lens import lens_logits, token_logits


def test_the_last_states_say_what_the_model_says(case: tiny.Case) -> None:
    with torch.no_grad():
        output = case.model(**case.inputs, output_hidden_states=True)
    softcap = getattr(case.model.config.get_text_config(), "final_logit_softcapping", None)
    assert softcap is None  # It would be applied after the head.
    lens = lens_logits(case.model, output.hidden_states[-1][0], normalised=True)
    torch.testing.assert_close(lens, output.logits[0], rtol=1e-4, atol=1e-4)


def test_states_inside_are_normalised_first(llava: tiny.Case) -> None:
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    normalised = llava.model.get_decoder().norm(states)
    ours = lens_logits(llava.model, states, normalised=False)
    torch.testing.assert_close(ours, lens_logits(llava.model, normalised, normalised=True))
    assert not torch.allclose(ours, lens_logits(llava.model, states, normalised=True))
    assert lens_logits(llava.model.bfloat16(), states.bfloat16(), normalised=False).dtype == torch.float32


def test_without_a_norm_under_the_usual_name_there_is_none(llava: tiny.Case) -> None:
    del llava.model.get_decoder().norm
    assert lens_logits(llava.model, torch.zeros(1, 32), normalised=False) is None


def test_logits_of_some_tokens_are_those_of_all(llava: tiny.Case) -> None:
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([7, 2])
    whole = lens_logits(llava.model, states, normalised=False)
    some = token_logits(llava.model, states, tokens, normalised=False)
    assert whole is not None
    torch.testing.assert_close(some, whole[:, tokens])
    # A head whose weights are no plain rows is run as a whole.
    llava.model.lm_head = torch.nn.Sequential(llava.model.lm_head)
    torch.testing.assert_close(token_logits(llava.model, states, tokens, normalised=False), whole[:, tokens])
    del llava.model.get_decoder().norm
    assert token_logits(llava.model, states, tokens, normalised=False) is None
