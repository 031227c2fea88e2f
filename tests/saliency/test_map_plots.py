"""Pictures of the full matrices show the numbers they are of, and say what is not there."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from saliency_guard import ConfigError, saliency_map
from saliency_guard.saliency.maps import SaliencyMap


@pytest.fixture(scope="module")
def shown() -> SaliencyMap:
    case = tiny.build("llava-gqa")
    return saliency_map(case.model, case.inputs, tiny.ANSWER, 4)


def image(figure: object) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())  # type: ignore[attr-defined]


def test_the_matrix_is_drawn_as_it_is(shown: SaliencyMap) -> None:
    figure = shown.plot()
    assert np.allclose(image(figure), shown.normalized.mean(dim=0).sqrt().numpy(), atol=1e-6)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert "image_0" in labels
    assert labels[-1] == "output"
    layer = shown.layers[1]
    assert np.allclose(image(shown.plot(layer)), shown.normalized[1].sqrt().numpy(), atol=1e-6)
    assert np.allclose(image(shown.plot(layer, 2)), shown.saliency[1, 2].sqrt().numpy(), atol=1e-6)


def test_heads_are_shares_that_add_up_over_the_sources(shown: SaliencyMap) -> None:
    total = sum(image(shown.plot_heads(source)) for source in shown.layout.sources)
    assert total.shape == shown.saliency.shape[:2]
    assert np.allclose(total, 1.0, atol=1e-5)
    by_hand = shown.saliency[0, 1, -1]
    spans = [span for span in shown.layout.spans if span.source == "image_0"]
    picture = [position for span in spans for position in range(span.start, span.stop)]
    expected = float(by_hand[torch.tensor(picture)].sum() / by_hand.sum())
    assert image(shown.plot_heads("image_0"))[0, 1] == pytest.approx(expected, rel=1e-4)


def test_what_is_not_there_is_said(shown: SaliencyMap) -> None:
    with pytest.raises(ConfigError, match="layer 99 is not in this map"):
        shown.plot(99)
    with pytest.raises(ConfigError, match="no head 99"):
        shown.plot(shown.layers[0], 99)
    with pytest.raises(ConfigError, match="which layer"):
        shown.plot(head=0)
    with pytest.raises(ConfigError, match="no source 'image_9'"):
        shown.plot_heads("image_9")
