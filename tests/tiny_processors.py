"""Tiny processors around tokenizers of every kind, learnt from a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import tiny
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    LlavaProcessor,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

from saliency_guard import LVLM

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "<|im_start|>", "<|im_end|>", "<video>")
ADDED = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<turn>")
"""Added tokens that are not special; the template writes the last one."""

CORPUS = [
    "USER: Is there a cat in the image?\nASSISTANT:\nYes, there is a cat.\n",
    "system user assistant tool <image> </s> <s> <pad> im_start im_end | turn call think / unk",
    "Where is the dog? The dog is to the left of the tree, at the bottom. Documents say so.",
    "".join(map(chr, range(33, 127))),
    " ".join(map(chr, range(33, 127))),
]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}<turn>\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<turn>\n{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] }}\n"
    "{% else %}{{ message['role'] | upper }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %} "
    "{% if message['role'] == 'assistant' %}</s>{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""As LLaVA 1.5 has it: no token for the beginning, headers in plain text, texts stripped."""


def _fast(
    tokenizer: Tokenizer, trainer: Any, *, late: bool = False, and_bytes: bool = False
) -> PreTrainedTokenizerFast:
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    if and_bytes:
        state = json.loads(tokenizer.to_str())
        vocabulary = state["model"]["vocab"]
        for byte in range(256):
            vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
        tokenizer = Tokenizer.from_str(json.dumps(state))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens([AddedToken(text, normalized=late) for text in ADDED])
    return fast


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _fast(
        tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return _fast(tokenizer, trainers.UnigramTrainer(vocab_size=400, special_tokens=list(SPECIAL), unk_token="<unk>"))


def llama() -> PreTrainedTokenizerFast:
    """A space before every piece of text, bytes for what is not in the vocabulary, and a token at the beginning."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = _fast(tokenizer, trainers.BpeTrainer(vocab_size=300, special_tokens=list(SPECIAL)), and_bytes=True)
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return fast


def word_piece() -> PreTrainedTokenizerFast:
    """Lower case, spaces around signs; added tokens are found after that."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _fast(tokenizer, trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(SPECIAL)), late=True)


def whole_words() -> PreTrainedTokenizerFast:
    """Knows words alone; a control token is one of them, and can be nothing else unless its parts are words."""
    words = [*SPECIAL, "Is", "there", "a", "cat", "user", "assistant", "<", "/s>"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="<pad>", image_token="<image>"
    )


class Characters(PreTrainedTokenizer):
    """A tokenizer in Python: every character is a token."""

    def __init__(self, **kwargs: Any) -> None:
        self._characters = [*SPECIAL, *map(chr, range(256))]
        self._known = {char: index for index, char in enumerate(self._characters)}
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return len(self._characters)

    def get_vocab(self) -> dict[str, int]:
        return {**self._known, **self.added_tokens_encoder}

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self._known.get(token, self._known["<unk>"])

    def _convert_id_to_token(self, index: int) -> str:
        return self._characters[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


def characters() -> Characters:
    slow = Characters(
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>", "<|im_start|>", "<|im_end|>", "<video>"],
        clean_up_tokenization_spaces=False,
    )
    slow.add_tokens([AddedToken(text, normalized=False) for text in ADDED])
    return slow


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level,
    "unigram": unigram,
    "llama": llama,
    "word-piece": word_piece,
    "characters": characters,
}
TEMPLATES = {"chatml": CHATML, "plain": PLAIN}


def llava(tokenizer: Any, template: str = CHATML, **settings: Any) -> LVLM:
    """A tiny LLaVA with a processor of its own; the model is only asked for its configuration."""
    images = CLIPImageProcessorPil(size={"height": 8, "width": 8}, do_center_crop=False)
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="full",
        chat_template=template,
    )
    model = tiny.build("llava-gqa").model
    model.config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    return LVLM(model, processor, **settings)


def picture(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


class ImagesOnly(Qwen2VLProcessor):
    """Qwen2-VL's processor without its part for videos, which needs torchvision."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str) -> None:
        self.image_token, self.video_token = "<image>", "<video>"
        self.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
        self.video_token_id = tokenizer.convert_tokens_to_ids("<video>")
        super(Qwen2VLProcessor, self).__init__(image_processor, tokenizer, chat_template=chat_template)


def qwen2_vl(tokenizer: Any, template: str = CHATML, **settings: Any) -> LVLM:
    """A tiny Qwen2-VL with a processor of its own: pictures take as many tokens as they are large."""
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=4096)
    model = tiny.build("qwen2-vl").model
    model.config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    model.config.video_token_id = tokenizer.convert_tokens_to_ids("<video>")
    return LVLM(model, ImagesOnly(images, tokenizer, template), **settings)
