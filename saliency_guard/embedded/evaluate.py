"""Measure the embedded model on unseen scenes: ``python -m saliency_guard.embedded.evaluate``.

Yes/no questions are balanced: for every class a scene shows that is asked for, one that it does not.
Scenes have seeds below those of training, so none of them was seen.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import islice

from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.mitigation import world_pope
from saliency_guard.evaluation.world import SPLITS, WorldPicture, chat, pictures, write_answers
from saliency_guard.lvlm import EMBEDDED, LVLM
from saliency_guard.scenes.language import DESCRIBE

_BATCH = 64


def captions(lvlm: LVLM, shown: Sequence[WorldPicture], *, max_new_tokens: int = 96) -> dict[str, float]:
    """CHAIR, recall and length of greedy captions."""
    vocabulary = ObjectVocabulary.world()
    left = iter(shown)
    scores = []
    while batch := list(islice(left, _BATCH)):
        written = write_answers(
            lvlm, [one.image for one in batch], [DESCRIBE] * len(batch), max_new_tokens=max_new_tokens
        )
        texts = [lvlm.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        scores += [score_caption(text, one.scene.counts, vocabulary) for text, one in zip(texts, batch, strict=True)]
    return chair(scores)


def speed(lvlm: LVLM, shown: Sequence[WorldPicture]) -> float:
    """Tokens a second of greedy captions without guard, one picture at a time, prompts included."""
    tokens, seconds = 0, 0.0
    for number, picture in enumerate(shown):
        begun = time.perf_counter()
        answer = lvlm.generate(chat(picture.image, DESCRIBE), sgrs=None, locore=None, saliency=None)
        if number:  # The first one warms up.
            seconds += time.perf_counter() - begun
            tokens += len(answer.tokens)
    return tokens / seconds if seconds else float("nan")


def main() -> None:
    """Parse the command line, measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--pictures", type=int, default=3000, help="scenes with two questions of each kind, captioned")
    parser.add_argument("--split", choices=list(SPLITS), default=next(iter(SPLITS)))
    arguments = parser.parse_args()
    begun = time.perf_counter()
    lvlm = LVLM.load(arguments.model)
    loaded = time.perf_counter() - begun
    shown = list(pictures(arguments.split, arguments.pictures))
    result = {
        "model": lvlm.model_id,
        "seconds_to_load": round(loaded, 2),
        "tokens_per_second": round(speed(lvlm, shown[:20]), 1),
        "split": arguments.split,
        "pictures": len(shown),
        "pope": world_pope(lvlm, shown),
        "captions": captions(lvlm, shown),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
