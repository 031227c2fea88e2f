"""Settings of the saliency."""

from __future__ import annotations

import pytest
import tiny

from saliency_guard import ConfigError, SaliencyConfig, score_answer


@pytest.mark.parametrize("layers", [[9], [-9], (0.5, 0.4), (0.0, 1.5), []])
def test_layers_that_are_not_there_are_refused(llava: tiny.Case, layers: object) -> None:
    with pytest.raises(ConfigError, match="layers"):
        score_answer(llava.model, llava.inputs, tiny.ANSWER, config=SaliencyConfig(layers=layers))
