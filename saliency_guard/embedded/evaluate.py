"""Measure the embedded model on unseen scenes: ``python -m saliency_guard.embedded.evaluate``.

Yes/no questions are balanced: for every class a scene shows that is asked for, one that it does not.
Scenes have seeds below those of training, so none of them was seen.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from typing import get_args

from saliency_guard.grounding import GroundedAnswer
from saliency_guard.locore import LocoREConfig
from saliency_guard.lvlm import EMBEDDED, LVLM
from saliency_guard.scenes import language
from saliency_guard.scenes.scene import Scene, render, sample_scene
from saliency_guard.scenes.sprites import STYLES
from saliency_guard.scenes.vocabulary import CLASSES, plural, singular
from saliency_guard.sgrs import SGRSConfig

_FIRST_SEED = 500_000
GUARDS = {
    "locore": (None, LocoREConfig()),
    "sgrs": (SGRSConfig(), None),
    "sgrs, min_p 0.5": (SGRSConfig(min_p=0.5), None),
    "sgrs, locore": (SGRSConfig(), LocoREConfig()),
}
_NAMES = {form: name for name in CLASSES for form in (name, singular(name), plural(name))}
_MENTION = re.compile(r"\b(" + "|".join(sorted(map(re.escape, _NAMES), key=len, reverse=True)) + r")\b")


def mentions(text: str) -> list[str]:
    """The class names a text mentions, longest form first (``"teddy bear"`` is no bear)."""
    return [_NAMES[found] for found in _MENTION.findall(text)]


def yes_no(lvlm: LVLM, count: int, kind: language.Negatives, styles: tuple[str, ...]) -> float:
    """Accuracy on ``count`` balanced yes/no questions with negatives of one kind."""
    right = asked = 0
    seed = _FIRST_SEED
    while asked < count:
        scene = sample_scene(seed, styles=styles)
        rng = random.Random(seed)
        seed += 1
        if not scene.objects:
            continue
        present = rng.choice(sorted(scene.counts))
        absent = language.negatives(scene, kind, rng, 1)[0]
        for name, truth in ((present, "yes"), (absent, "no")):
            text = _ask(lvlm, scene, language.presence(scene, name).question, max_new_tokens=2).text
            said = re.match(r"\W*(yes|no)\b", text.lower())
            right += said is not None and said[1] == truth
            asked += 1
    return right / asked


def captions(
    lvlm: LVLM,
    count: int,
    styles: tuple[str, ...],
    *,
    sgrs: SGRSConfig | None = None,
    locore: LocoREConfig | None = None,
) -> dict[str, float]:
    """Object recall, CHAIR_I, CHAIR_S, mean length and rejections of greedy captions (at most 80 tokens)."""
    told: Counter[str] = Counter()
    for seed in range(_FIRST_SEED, _FIRST_SEED + count):
        scene = sample_scene(seed, styles=styles)
        answer = _ask(lvlm, scene, language.DESCRIBE, max_new_tokens=80, sgrs=sgrs, locore=locore)
        text = answer.text
        said = mentions(text)
        wrong = sum(name not in scene.counts for name in said)
        told.update(
            mentioned=len(said),
            wrong=wrong,
            shown=len(scene.counts),
            found=len(set(said) & set(scene.counts)),
            sentences_wrong=int(wrong > 0),
            words=len(text.split()),
            tokens=len(answer.tokens),
            rejected=sum(len(token.rejected) for token in answer.tokens),
        )
    return {
        "recall": told["found"] / max(1, told["shown"]),
        "chair_i": told["wrong"] / max(1, told["mentioned"]),
        "chair_s": told["sentences_wrong"] / count,
        "words": told["words"] / count,
        "rejected_per_100_tokens": 100 * told["rejected"] / max(1, told["tokens"]),
    }


def _ask(
    lvlm: LVLM,
    scene: Scene,
    question: str,
    *,
    max_new_tokens: int,
    sgrs: SGRSConfig | None = None,
    locore: LocoREConfig | None = None,
) -> GroundedAnswer:
    picture = render(scene, 224).image
    messages = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]
    return lvlm.generate(messages, max_new_tokens=max_new_tokens, sgrs=sgrs, locore=locore, saliency=None)


def main() -> None:
    """Parse the command line, measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--questions", type=int, default=500, help="yes/no questions of each kind")
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--guards", action="store_true", help="captions under SGRS and LocoRE, too")
    parser.add_argument("--styles", nargs="+", default=list(STYLES))
    arguments = parser.parse_args()
    lvlm, styles = LVLM.load(arguments.model), tuple(arguments.styles)
    result: dict[str, object] = {"model": lvlm.model_id, "styles": styles, "questions": arguments.questions}
    for kind in get_args(language.Negatives):
        result[f"yes_no_{kind}"] = yes_no(lvlm, arguments.questions, kind, styles)
    result["captions"] = captions(lvlm, arguments.captions, styles)
    if arguments.guards:
        result["guards"] = {
            name: captions(lvlm, arguments.captions, styles, sgrs=sgrs, locore=locore)
            for name, (sgrs, locore) in GUARDS.items()
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
