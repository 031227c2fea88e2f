"""Features of a calibration."""

from __future__ import annotations

import numpy as np
import torch

from saliency_guard import LVLM
from saliency_guard.calibration.features import RECOGNISED_SIZE, lens_evidence, recognised_rows
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.signals.trace import trace_answer


def test_the_evidence_of_a_word_is_what_the_lens_shows_of_it(lvlm: LVLM) -> None:
    picture = next(pictures("development", 1))
    ids = lvlm.tokenizer(" a dog", add_special_tokens=False)["input_ids"]
    trace = trace_answer(lvlm.model, lvlm.inputs(chat(picture.image, DESCRIBE)), ids)
    evidence = lens_evidence(trace)
    assert evidence.shape == (len(ids), len(trace.lens_layers) * 10)
    layers = evidence.unflatten(1, (len(trace.lens_layers), 10))
    assert len(trace.lens) == len(trace.lens_layers) > 0
    for layer, values in enumerate(trace.lens):
        for token in range(len(ids)):
            column = values[:, token]
            torch.testing.assert_close(layers[token, layer, :4], column.sort(descending=True).values[:4])
            counts = [float((column.exp() > level).sum()) for level in (0.1, 0.3, 0.6, 0.9)]
            assert layers[token, layer, 4:8].tolist() == counts
            assert layers[token, layer, 8] == trace.lens_entropy[layer, column.argmax()]
            looks = trace.rows[token, trace.image_positions]
            torch.testing.assert_close(layers[token, layer, 9].exp(), (looks / looks.sum()) @ column.exp())


def test_every_claim_has_how_surely_the_pictures_are_recognised() -> None:
    domain = np.arange(2.0 * 20).reshape(2, 20)
    rows = recognised_rows(domain, 3)
    assert rows.shape == (3, RECOGNISED_SIZE)
    np.testing.assert_array_equal(rows, [domain[:, -RECOGNISED_SIZE:].mean(axis=0)] * 3)
    assert recognised_rows(domain, 0).shape == (0, RECOGNISED_SIZE)
    assert np.isnan(recognised_rows(np.empty((0, 0)), 2)).all()
