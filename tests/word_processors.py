"""Real processors of tiled families around a tokenizer of a few words, which tiny models know."""

from __future__ import annotations

from typing import Any

import families
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from saliency_guard import LVLM

WORDS = ["<pad>", "<unk>", "<end>", "look", "\n", "_", *map(str, range(10))]
TOGETHER = "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
TOGETHER += "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} look"


def tokenizer(*special: str, **named: str) -> hf.PreTrainedTokenizerFast:
    words = [*WORDS, *special, *named.values()]
    known = {word: index for index, word in enumerate(dict.fromkeys(words))}
    model = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = hf.PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", pad_token="<pad>", **named)
    made.add_tokens([*special, *named.values()], special_tokens=True)
    return made


def idefics3() -> tuple[str, Any]:
    images = hf.Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    marks = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    words = tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *marks)
    template = TOGETHER.replace("IMAGE", "<image>")
    return "idefics3", hf.Idefics3Processor(images, words, image_seq_len=4, chat_template=template)


def aya() -> tuple[str, Any]:
    images = hf.GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, max_patches=4, min_patches=1)
    marks = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL"]
    words = tokenizer("<image>", *marks)
    template = TOGETHER.replace("IMAGE", "<image>")
    sizes = {"patch_size": 4, "img_size": 16, "downsample_factor": 2}
    return "aya-vision", hf.AyaVisionProcessor(images, words, chat_template=template, **sizes)


def llava_next() -> tuple[str, Any]:
    images = hf.LlavaNextImageProcessorPil(
        size={"height": 8, "width": 8}, crop_size={"height": 8, "width": 8}, image_grid_pinpoints=[[8, 16], [16, 8]]
    )
    words = tokenizer("<image>")
    template = TOGETHER.replace("IMAGE", "<image>")
    return "llava-next", hf.LlavaNextProcessor(
        images, words, patch_size=4, vision_feature_select_strategy="full", chat_template=template
    )


def mllama() -> LVLM:
    """Llama 3.2 Vision, whose pictures are only seen across."""
    images = hf.MllamaImageProcessorPil(size={"height": 8, "width": 8}, max_image_tiles=2)
    words = tokenizer("<|image|>", "<|python_tag|>", bos_token="<s>", eos_token="</s>")
    processor = hf.MllamaProcessor(images, words, chat_template=TOGETHER.replace("IMAGE", "<|image|>"))
    model = families.build("mllama-two").model
    model.config.image_token_id = words.convert_tokens_to_ids("<|image|>")
    model.config.image_token_index = model.config.image_token_id
    return LVLM(model, processor)
