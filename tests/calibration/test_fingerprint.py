"""What a calibration belongs to."""

from __future__ import annotations

import tiny
import torch

from saliency_guard import SaliencyConfig
from saliency_guard.calibration.fingerprint import fingerprint, weights_digest


def test_any_changed_tensor_changes_the_digest(llava: tiny.Case) -> None:
    before = weights_digest(llava.model)
    assert weights_digest(llava.model) == before
    weight = next(iter(llava.model.get_decoder().layers[2].parameters()))
    with torch.no_grad():
        weight.mul_(1.01)
    assert weights_digest(llava.model) != before


def test_the_same_values_in_another_precision_have_another_fingerprint(llava: tiny.Case) -> None:
    rounded = llava.model.to(torch.bfloat16).float()  # Values that both precisions hold exactly.
    before = fingerprint(rounded, None, "tiny", SaliencyConfig())
    assert before.differing(fingerprint(rounded, None, "tiny", SaliencyConfig())) == []
    after = fingerprint(rounded.to(torch.bfloat16), None, "tiny", SaliencyConfig())
    assert (before.dtype, after.dtype) == ("float32", "bfloat16")
    assert "dtype" in before.differing(after)
