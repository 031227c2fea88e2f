"""Every map is made of what its name says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saliency_guard import LVLM, SaliencyConfig
from saliency_guard.calibration.features import Floats
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation import pointing_maps
from saliency_guard.evaluation.pointing_maps import MentionTokens, candidate_maps, centre_prior, ranks
from saliency_guard.models.session import Session
from saliency_guard.signals.picture_maps import PictureMaps, picture_maps
from saliency_guard.signals.trace import AnswerTrace, trace_answers


@pytest.fixture(scope="module")
def traced(lvlm: LVLM) -> tuple[AnswerTrace, PictureMaps]:
    prepared = lvlm.prepare(chat("examples/desk.png", "What is in the image?"))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    (trace,) = trace_answers([session], [lvlm.tokenizer.encode("There is a cup.")], SaliencyConfig())
    return trace, picture_maps(session, trace)


def all_maps(traced: tuple[AnswerTrace, PictureMaps], *tokens: int) -> dict[str, Floats]:
    trace, maps = traced
    box = (0.0, 0.0, 0.5, 0.5)
    return candidate_maps(maps, trace, MentionTokens(*tokens), [box] * len(trace.image_positions))


def test_sets_of_layers_are_means_and_products_are_products(traced: tuple[AnswerTrace, PictureMaps]) -> None:
    maps = traced[1]
    values = all_maps(traced, 3, 1, 2)
    depth = len(maps.layers)
    assert depth == 4
    for name, layers in (("saliency", maps.saliency[3]), ("attention", maps.attention[3])):
        single = np.stack([values[f"{name}, layer {layer}"] for layer in range(depth)])
        np.testing.assert_allclose(single, layers, rtol=1e-6)
        np.testing.assert_allclose(values[f"{name}, all layers"], single.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(values[f"{name}, target layers"], single[2:].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(values[f"{name}, lower half"], single[:2].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(values["saliency, target layers"], maps.mean_saliency[3], rtol=1e-4, atol=1e-7)
    own = np.stack([values[f"attention of the word itself, layer {layer}"] for layer in range(depth)])
    np.testing.assert_allclose(own, maps.attention[4], rtol=1e-6)
    for name, parts in pointing_maps.PRODUCTS.items():
        np.testing.assert_allclose(values[name], np.prod([values[part] for part in parts], axis=0), rtol=1e-5)
    for before, token in ((pointing_maps.FIRST, 1), (pointing_maps.LAST, 2)):
        np.testing.assert_allclose(values[f"{before}{pointing_maps.COMBINED}"], maps.combined[token])
        np.testing.assert_allclose(values[f"{before}{pointing_maps.SALIENCY}"], maps.saliency[token][2:].mean(dim=0))


def test_the_combined_map_is_the_product_of_the_maps_beside_it(traced: tuple[AnswerTrace, PictureMaps]) -> None:
    values = all_maps(traced, 3, 1, 2)
    product = values[pointing_maps.SALIENCY] * values[pointing_maps.WORD]
    np.testing.assert_allclose(values[pointing_maps.COMBINED], product / product.sum(), rtol=1e-3, atol=1e-7)
    trace = traced[0]
    layers = [values[f"similarity, layer {layer}"] for layer in range(1, 5)]
    own, seen = trace.output_states[2][4], trace.image_states[2]
    cosine = (seen @ own) / (seen.norm(dim=-1) * own.norm())
    np.testing.assert_allclose(layers[1], cosine.detach(), rtol=1e-4, atol=1e-6)


def test_nothing_looks_after_the_last_token(traced: tuple[AnswerTrace, PictureMaps]) -> None:
    last = len(traced[0].tokens) - 1
    values = all_maps(traced, last, last, last)
    assert np.isnan(values["attention of the word itself, lower half"]).all()
    assert np.isfinite(values[pointing_maps.COMBINED]).all()


def test_the_centre_prior_is_largest_in_the_middle() -> None:
    boxes = [(x / 3, y / 3, (x + 1) / 3, (y + 1) / 3) for y in range(3) for x in range(3)]
    values = centre_prior([*boxes, None])
    assert int(values[:9].argmax()) == 4
    assert float(values[4]) == pytest.approx(1.0)
    assert float(values[1]) == pytest.approx(np.exp(-((1 / 3) ** 2) / (2 * 0.25**2)))


def test_ranks_of_equal_values_are_equal() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [0.5, 0.0, 0.5, 0.25]
    assert ranks(torch.full((2,), torch.nan)).isnan().all()
