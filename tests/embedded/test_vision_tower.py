from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, LlavaConfig, LlavaForConditionalGeneration

from saliency_guard.embedded.vision_tower import GridVisionConfig, GridVisionModel


def test_a_picture_becomes_a_grid_of_cells() -> None:
    model = GridVisionModel(GridVisionConfig(hidden_size=24, channels=(4, 8), num_attention_heads=2, patch_size=8))
    model.eval()
    found = model(torch.randn(3, 3, 128, 128))
    assert found.last_hidden_state.shape == (3, 256, 24)
    assert found.hidden_states == (found.last_hidden_state,)


def test_the_auto_classes_know_it(tmp_path: Path) -> None:
    config = GridVisionConfig(hidden_size=24, channels=(4, 8, 8), num_attention_heads=2)
    model = GridVisionModel(config).eval()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), GridVisionConfig)
    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, GridVisionModel)
    pixels = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(again(pixels).last_hidden_state, model(pixels).last_hidden_state)


def test_llava_takes_it_as_its_tower() -> None:
    config = LlavaConfig(
        vision_config=GridVisionConfig(hidden_size=24, channels=(4, 8, 8), num_attention_heads=2),
        text_config={
            "model_type": "llama",
            "vocab_size": 50,
            "hidden_size": 24,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        image_token_index=49,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model = LlavaForConditionalGeneration(config).eval()
    ids = torch.tensor([[1, *[49] * 64, 2]])
    logits = model(input_ids=ids, pixel_values=torch.randn(1, 3, 128, 128)).logits
    assert logits.shape == (1, 66, 50)
