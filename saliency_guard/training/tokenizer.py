"""The embedded model's tokenizer: a byte-level BPE learnt from what is said about scenes.

Byte-level, so that any question can be asked; learnt on scenes, so that a class name is a token or two.
"""

from __future__ import annotations

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from saliency_guard.scenes import language
from saliency_guard.scenes.scene import sample_scene
from saliency_guard.scenes.vocabulary import CLASSES

_VOCABULARY_SIZE = 768
_SPECIAL = ("<pad>", "<s>", "</s>", "<image>")


def train_tokenizer(scenes: int = 3000) -> PreTrainedTokenizerFast:
    """Learn the tokenizer from captions, questions and answers of ``scenes`` scenes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY_SIZE,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(scenes), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
    )


def _corpus(scenes: int) -> list[str]:
    lines: list[str] = []
    for seed in range(scenes):
        rng = random.Random(seed)
        scene = sample_scene(seed)
        exchanges = [language.describe(scene, rng), *language.questions(scene, rng, 4)]
        lines += [f"USER: \n{exchange.question}\nASSISTANT:\n{exchange.answer}\n" for exchange in exchanges]
    # Every class often enough to become a token, whatever the scenes drew.
    lines += [f"the {name} is" for name in CLASSES] * 40
    return lines
