"""What a calibration belongs to."""

from __future__ import annotations

import tiny
import torch

from saliency_guard.calibration.fingerprint import weights_digest


def test_any_changed_tensor_changes_the_digest(llava: tiny.Case) -> None:
    before = weights_digest(llava.model)
    assert weights_digest(llava.model) == before
    weight = next(iter(llava.model.get_decoder().layers[2].parameters()))
    with torch.no_grad():
        weight.mul_(1.01)
    assert weights_digest(llava.model) != before


def test_precision_is_part_of_what_is_looked_at(llava: tiny.Case) -> None:
    before = weights_digest(llava.model)
    assert weights_digest(llava.model.to(torch.bfloat16)) != before
