from __future__ import annotations

import torch

from saliency_guard.embedded.architecture import build_model
from saliency_guard.training.packed import states
from saliency_guard.training.tokenizer import train_tokenizer


def test_what_is_wanted_is_what_the_whole_model_says_of_it() -> None:
    torch.manual_seed(0)
    model = build_model(train_tokenizer(100)).model.language_model
    embeds = torch.randn(3, 20, 192)
    mask = torch.full((20, 20), torch.finfo(torch.float32).min).triu(1).expand(3, 1, -1, -1).contiguous()
    mask[:, :, 12:, 5:9] = torch.finfo(torch.float32).min  # Another exchange, say.
    positions = torch.cat([torch.arange(12), torch.arange(5, 13)]).expand(3, -1)
    wanted = torch.rand(3, 20) < 0.3
    wanted[1] = False
    wanted[1, 4] = True
    leaf = embeds.clone().requires_grad_()
    read, below = states(model, leaf, mask, positions, wanted)
    other = embeds.clone().requires_grad_()
    everything = model(
        inputs_embeds=other, attention_mask=mask, position_ids=positions, use_cache=False, output_hidden_states=True
    )
    whole = everything[0][wanted]
    for made, true in zip(below, everything.hidden_states[1:], strict=False):
        torch.testing.assert_close(made, true, atol=1e-5, rtol=1e-4)
    assert len(below) == len(model.layers) - 1
    torch.testing.assert_close(read, whole, atol=1e-5, rtol=1e-4)
    weights = torch.randn_like(read)
    gradients = [
        torch.autograd.grad((made * weights).sum(), start)[0] for made, start in ((read, leaf), (whole, other))
    ]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)
