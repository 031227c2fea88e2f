"""Layers that do not stand on their own are not passed over."""

from __future__ import annotations

import families
import oracle
import pytest
import tiny
import torch

from saliency_guard import SaliencyConfig, SGRSConfig
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.models.session import Session


def _only_text(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    scores = scores.clone()
    scores[..., tiny.IMAGE :] = -torch.inf
    return scores


@pytest.mark.parametrize("layers", [[5], [4, 5], [0, 3]])
def test_layers_that_take_keys_and_values_from_below_are_drafted_as_well(layers: list[int]) -> None:
    case = families.build("gemma4")
    sgrs = SGRSConfig(alpha=0.9, draft_length=4)
    decoder = Decoder(
        Session(case.model, case.inputs), sgrs=sgrs, saliency=SaliencyConfig(layers=layers), processor=_only_text
    )
    tokens = [token.grounding for token in decoder.tokens(8)]
    answer = [token.token_id for token in tokens]
    start = case.inputs["input_ids"].shape[1]
    found, _, _ = oracle.saliency(case.model, case.inputs, answer, layers=layers, start=start)
    ours = torch.tensor([token.saliency for token in tokens[1:]], dtype=torch.float64)
    torch.testing.assert_close(ours, found[1:], rtol=1e-4, atol=0)
