"""Measure the embedded model on unseen scenes: ``python -m saliency_guard.training.evaluate``.

Yes/no questions are balanced: for every class a scene shows that is asked for, one that it does not.
Scenes have seeds below those of training, so none of them was seen.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence

from saliency_guard.chat.messages import chat
from saliency_guard.embedded import EMBEDDED
from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.mitigation import world_pope
from saliency_guard.evaluation.world import FIRST_SEEDS, SPLITS, WorldPicture, batches, pictures, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes.language import DESCRIBE, Exchange, how_many, where
from saliency_guard.training import abilities

_BATCH = 64
_SENTENCE = 48


def captions(lvlm: LVLM, shown: Sequence[WorldPicture], *, max_new_tokens: int = 96) -> dict[str, float]:
    """CHAIR, recall and length of greedy captions, and what else is right in them."""
    vocabulary = ObjectVocabulary.world()
    scores = []
    said: list[str] = []
    for batch in batches(shown, _BATCH):
        written = write_answers(
            lvlm, [one.image for one in batch], [DESCRIBE] * len(batch), max_new_tokens=max_new_tokens
        )
        texts = [lvlm.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        scores += [score_caption(text, one.scene.counts, vocabulary) for text, one in zip(texts, batch, strict=True)]
        said += texts
    return chair(scores) | abilities.caption_details(said, [one.scene for one in shown])


def exact_answers(lvlm: LVLM, asked: Sequence[tuple[WorldPicture, Exchange]]) -> float:
    """Part of questions whose greedy answer is the true one, word for word."""
    right = 0
    for batch in batches(asked, _BATCH):
        written = write_answers(
            lvlm,
            [picture.image for picture, _ in batch],
            [exchange.question for _, exchange in batch],
            max_new_tokens=_SENTENCE,
        )
        said = [lvlm.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        right += sum(text == exchange.answer for text, (_, exchange) in zip(said, batch, strict=True))
    return right / len(asked) if asked else float("nan")


def counts(lvlm: LVLM, shown: Sequence[WorldPicture]) -> float:
    """Part of questions for a number that are answered right: one question a picture, for something it shows."""
    return exact_answers(lvlm, [(one, how_many(one.scene, _asked_for(one.scene.counts))) for one in shown])


def places(lvlm: LVLM, shown: Sequence[WorldPicture]) -> float:
    """Part of questions for a place (one of nine) that are answered right, where a picture has one thing of a kind."""
    singles = [(one, [name for name, count in one.scene.counts.items() if count == 1]) for one in shown]
    return exact_answers(lvlm, [(one, where(one.scene, _asked_for(names))) for one, names in singles if names])


def _asked_for(names: Iterable[str]) -> str:
    """One of a scene's classes, whatever its place and size."""
    return min(names)


def speed(lvlm: LVLM, shown: Sequence[WorldPicture]) -> float:
    """Tokens a second of greedy captions without guard, one picture at a time, prompts included."""
    tokens, seconds = 0, 0.0
    for number, picture in enumerate(shown):
        begun = time.perf_counter()
        answer = lvlm.generate(chat(picture.image, DESCRIBE), saliency=None)
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
    parser.add_argument("--sight-alone", action="store_true", help="only POPE, captions, counts and places")
    parser.add_argument("--slow-pictures", type=int, default=1000, help="scenes for forms, tools and documents")
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
        "counts": counts(lvlm, shown),
        "places": places(lvlm, shown),
    }
    if not arguments.sight_alone:
        some = shown[: arguments.slow_pictures]
        result |= {
            "statements": abilities.statements_told(lvlm, shown),
            "other words": abilities.other_words(lvlm, shown),
            "several": abilities.several_shown(lvlm, shown),
            "forms": abilities.forms_filled(lvlm, some),
            "tools": abilities.tools_called(lvlm, some),
            "documents": abilities.documents_read(lvlm, some),
            "nothing seen": abilities.nothing_seen(lvlm, some, FIRST_SEEDS[arguments.split]),
            "follow-ups": abilities.follow_ups(lvlm, some),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
