"""Measure the embedded model on unseen scenes: ``python -m saliency_guard.training.evaluate``.

Yes/no questions are balanced: for every question about a class that a scene shows, there is one about a class that it
does not show. The scenes' seeds are below those of training, so none of them was trained on.
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
from saliency_guard.evaluation.world import FIRST_SEEDS, SPLITS, WorldPicture, batches, pictures, write_answers
from saliency_guard.evaluation.world_pope import world_pope
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes.language import DESCRIBE, Exchange, how_many, where
from saliency_guard.training import abilities

_BATCH = 64
_SENTENCE = 48


def captions(lvlm: LVLM, world_pictures: Sequence[WorldPicture], *, max_new_tokens: int = 96) -> dict[str, float]:
    """CHAIR, recall and length of greedy captions, and the details of `abilities.caption_details`."""
    vocabulary = ObjectVocabulary.world()
    scores = []
    all_texts: list[str] = []
    for batch in batches(world_pictures, _BATCH):
        token_ids = write_answers(
            lvlm, [picture.image for picture in batch], [DESCRIBE] * len(batch), max_new_tokens=max_new_tokens
        )
        texts = [lvlm.tokenizer.decode(ids, skip_special_tokens=True) for ids in token_ids]
        scores += [
            score_caption(text, picture.scene.counts, vocabulary) for text, picture in zip(texts, batch, strict=True)
        ]
        all_texts += texts
    return chair(scores) | abilities.caption_details(all_texts, [picture.scene for picture in world_pictures])


def exact_answers(lvlm: LVLM, questions: Sequence[tuple[WorldPicture, Exchange]]) -> float:
    """Share of questions whose greedy answer is exactly the true answer."""
    right = 0
    for batch in batches(questions, _BATCH):
        token_ids = write_answers(
            lvlm,
            [picture.image for picture, _ in batch],
            [exchange.question for _, exchange in batch],
            max_new_tokens=_SENTENCE,
        )
        texts = [lvlm.tokenizer.decode(ids, skip_special_tokens=True) for ids in token_ids]
        right += sum(text == exchange.answer for text, (_, exchange) in zip(texts, batch, strict=True))
    return right / len(questions) if questions else float("nan")


def counts(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> float:
    """Share of right answers to questions about a number, one per picture, about a class that it shows."""
    return exact_answers(
        lvlm, [(picture, how_many(picture.scene, _first_class(picture.scene.counts))) for picture in world_pictures]
    )


def places(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> float:
    """Share of right answers to questions about a place (one of nine), about classes with a single object."""
    singles = [
        (picture, [name for name, count in picture.scene.counts.items() if count == 1]) for picture in world_pictures
    ]
    return exact_answers(
        lvlm, [(picture, where(picture.scene, _first_class(names))) for picture, names in singles if names]
    )


def _first_class(names: Iterable[str]) -> str:
    """The alphabetically first class, which does not depend on place or size."""
    return min(names)


def speed(lvlm: LVLM, world_pictures: Sequence[WorldPicture]) -> float:
    """Tokens per second of greedy captions without guard, one picture at a time, prompts included."""
    tokens, seconds = 0, 0.0
    for number, picture in enumerate(world_pictures):
        start = time.perf_counter()
        answer = lvlm.generate(chat(picture.image, DESCRIBE), saliency=None)
        if number:  # The first one warms up.
            seconds += time.perf_counter() - start
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
    start = time.perf_counter()
    lvlm = LVLM.load(arguments.model)
    loaded = time.perf_counter() - start
    world_pictures = list(pictures(arguments.split, arguments.pictures))
    result = {
        "model": lvlm.model_id,
        "seconds_to_load": round(loaded, 2),
        "tokens_per_second": round(speed(lvlm, world_pictures[:20]), 1),
        "split": arguments.split,
        "pictures": len(world_pictures),
        "pope": world_pope(lvlm, world_pictures),
        "captions": captions(lvlm, world_pictures),
        "counts": counts(lvlm, world_pictures),
        "places": places(lvlm, world_pictures),
    }
    if not arguments.sight_alone:
        slow_pictures = world_pictures[: arguments.slow_pictures]
        result |= {
            "statements": abilities.statements_told(lvlm, world_pictures),
            "other words": abilities.other_words(lvlm, world_pictures),
            "several": abilities.several_shown(lvlm, world_pictures),
            "forms": abilities.forms_filled(lvlm, slow_pictures),
            "tools": abilities.tools_called(lvlm, slow_pictures),
            "documents": abilities.documents_read(lvlm, slow_pictures),
            "claims about documents": abilities.documents_verified(lvlm, len(slow_pictures)),
            "nothing seen": abilities.nothing_seen(lvlm, slow_pictures, FIRST_SEEDS[arguments.split]),
            "follow-ups": abilities.follow_ups(lvlm, slow_pictures),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
