"""What stands on the page: plain values made of an answer's plain values, ready for the template and its script."""

from __future__ import annotations

import base64
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from saliency_guard.answer_view import AnswerView, HeatMap, PictureView
from saliency_guard.storage import json_value

LOW, HIGH = 0.5, 0.9
"""Groundings below the one are low, from the other on high."""

_SOURCES = {
    "combined": (
        "Combined",
        "Saliency times the token's own logit there: it found objects best",
    ),
    "saliency": ("Saliency", "Eq. 4 and 5: attention times its gradient"),
    "attention": ("Attention", "Attention, mean over heads"),
    "lens": ("Logit lens", "The token's probability read off the picture's own states"),
}
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Signs that turn the direction of what follows: of their own token alone."""

_LABEL = 14.0  # Height of a box's label, in units of its text.


@dataclass(frozen=True, slots=True)
class AttemptContent:
    """One attempt beside others.

    Attributes:
        name: its heading.
        text: the answer.
        verdict: ``"accepted"``, ``"refused"``, ``"unscored"``, or another single word.
        score: its grounding; None where there is none.
        reason: why it was not accepted; empty otherwise.
        change: how it differs from the first one; empty otherwise.
    """

    name: str
    text: str
    verdict: str
    score: float | None
    reason: str = ""
    change: str = ""


@dataclass(frozen=True, slots=True)
class RepairContent:
    """A repaired answer.

    Attributes:
        text: what is left.
        dropped: the claims that were left out.
        how: what it was repaired by, in a sentence.
    """

    text: str
    dropped: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True)
class PageContent:
    """All that stands on the page.

    Attributes:
        answer: as `GroundedAnswer.to_dict` gives it.
        view: what is shown beside it.
        threshold: on the grounding; None where there is none.
        decision: of a policy, in a word; empty without one.
        attempts: side by side; empty for a single answer.
        repaired: what is left of it; None where it was not repaired.
        given: the text that was given out instead of the answer; None where there is none.
    """

    answer: Mapping[str, Any]
    view: AnswerView = field(default_factory=AnswerView)
    threshold: float | None = None
    decision: str = ""
    attempts: tuple[AttemptContent, ...] = ()
    repaired: RepairContent | None = None
    given: str | None = None


def probability(value: float) -> str:
    """A probability in two digits; one that is not certain is not written as if it were."""
    if 0.0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1.0 else f"{value:.2f}"


def level(grounding: float | None) -> str:
    """A word for a grounding: low, middle, high, none."""
    if grounding is None or not math.isfinite(grounding):
        return "none"
    return "low" if grounding < LOW else "middle" if grounding < HIGH else "high"


def template_values(content: PageContent) -> dict[str, Any]:
    """What the template is filled with, all but the script's data."""
    answer, view = content.answer, content.view
    pictures = _pictures(answer, view)
    named = {heat.source for heat in view.maps}
    return {
        "question": view.question,
        "text": answer["text"],
        "verdict": verdict(content),
        "facts": _facts(answer),
        "pictures": pictures,
        "note": view.note,
        "sources": [
            {"name": name, "label": label, "help": text} for name, (label, text) in _SOURCES.items() if name in named
        ],
        "tokens": [_token(token) for token in answer["tokens"]],
        "has_groundings": any(token["grounding"] is not None for token in answer["tokens"]),
        "claims": [_claim(claim) for claim in answer["claims"]],
        "attempts": [_attempt(attempt) for attempt in content.attempts],
        "repaired": content.repaired,
        "given": content.given,
        "low": LOW,
    }


def script_data(content: PageContent) -> dict[str, Any]:
    """What the page's script works on."""
    answer, view = content.answer, content.view
    tokens = [json_value(token) for token in answer["tokens"]]
    return {
        "question": view.question,
        "verdict": verdict(content)["sentence"],
        "threshold": json_value(content.threshold),
        "answer": json_value(answer),
        "tokens": tokens,
        "claims": [{"tokens": tokens_of(answer, claim["span"])} for claim in answer["claims"]],
        "shares": dict.fromkeys((name for token in tokens for name in token["shares"]), True),
        "signals": list(dict.fromkeys(name for token in tokens for name in token["signals"])),
        "pictures": [
            {"positions": picture.positions, "patches": [_rounded(box) for box in picture.patches]}
            for picture in view.pictures
        ],
        "maps": [_map(heat) for heat in _first_of_each(view.maps)],
        "alternatives": [
            [{"text": other.text, "logprob": json_value(other.logprob)} for other in others]
            for others in view.alternatives
        ],
    }


def _first_of_each(maps: Sequence[HeatMap]) -> list[HeatMap]:
    return sorted(maps, key=lambda heat: list(_SOURCES).index(heat.source))


def _map(heat: HeatMap) -> dict[str, Any]:
    return {"source": heat.source, "layer": heat.layer, "values": base64.b64encode(heat.values).decode("ascii")}


def _rounded(box: Sequence[float] | None) -> list[float] | None:
    return None if box is None else [round(edge, 4) for edge in box]


def tokens_of(answer: Mapping[str, Any], span: Sequence[int]) -> list[int]:
    """Indices of the tokens whose pieces lie in a span of characters."""
    start, stop = span
    at, inside = 0, []
    for index, token in enumerate(answer["tokens"]):
        end = at + len(token["text"])
        if at < stop and end > start and token["text"].strip():
            inside.append(index)
        at = end
    return inside


def verdict(content: PageContent) -> dict[str, Any]:
    """The number, what it means, and what qualifies it."""
    answer = content.answer
    score = answer["grounding"]
    claims = len(answer["claims"])
    more: list[str] = []
    if score is None:
        reason = answer.get("grounding_reason") or "the answer was not judged"
        sentence = f"No grounding: {reason}."
        judged = sum(claim["grounding"] is not None for claim in answer["claims"])
        if judged:
            more.append(f"{judged} of {claims} claims have one of their own.")
    else:
        what = "its claim is true" if claims == 1 else f"all of its {claims} claims are true"
        written = probability(score).replace("<", "below ").replace(">", "above ")
        sentence = f"With probability {written}, {what}."
        if not answer["calibrated"]:
            more.append("The calibration was fitted for another model.")
        low = sum(claim["grounding"] is not None and claim["grounding"] < LOW for claim in answer["claims"])
        if low and claims > 1:
            more.append(f"{low} of {claims} claims {'is' if low == 1 else 'are'} more likely wrong than right.")
    if content.decision:
        threshold = f" (threshold {content.threshold:.3f})" if content.threshold is not None else ""
        instead = "; this answer was not given out" if content.given is not None else ""
        more.append(f"The policy's decision: {content.decision.replace('_', ' ')}{threshold}{instead}.")
    number = None if score is None else probability(score)
    return {"score": number, "level": level(score), "sentence": sentence, "more": " ".join(more)}


def _facts(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    usage = answer["usage"]
    ended = {"stop": "by itself", "length": "cut off at the limit"}[answer["finish_reason"]]
    facts = [
        ("model", str(answer["model_id"]) or "unknown"),
        ("tokens", f"{usage['completion_tokens']} after {usage['prompt_tokens']}"),
        ("ended", ended),
    ]
    shares = _mean_shares(answer["tokens"])
    if shares:
        facts.append(("rests on", ", ".join(f"{name} {share:.0%}" for name, share in shares.items())))
    return facts


def _mean_shares(tokens: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    known = [token["shares"] for token in tokens if token["shares"]]
    names = dict.fromkeys(name for shares in known for name in shares)
    return {name: sum(shares.get(name, 0.0) for shares in known) / len(known) for name in names}


def _token(token: Mapping[str, Any]) -> dict[str, str]:
    grounding = token["grounding"]
    text = token["text"]
    spoken = [text.strip() or "space"]
    if not math.isnan(token["logprob"]):
        spoken.append(f"probability {math.exp(min(0.0, token['logprob'])):.2f}")
    colour = " apart" if any(unicodedata.bidirectional(sign) in _DIRECTIONS for sign in text) else ""
    if grounding is not None:
        spoken.append(f"grounding {probability(grounding)}")
        colour += f" g{round(10 * grounding)}" + (" under" if grounding < LOW else "")
    word = text.lstrip() or text
    return {"before": text.removesuffix(word), "text": word, "level": colour, "spoken": ", ".join(spoken)}


def _claim(claim: Mapping[str, Any]) -> dict[str, Any]:
    grounding = claim["grounding"]
    return {
        "text": claim["text"].strip() or claim["statement"],
        "kind": str(claim["kind"]).replace("_", " or "),
        "grounding": None if grounding is None else probability(grounding),
        "level": level(grounding),
        "step": 0 if grounding is None else round(10 * grounding),
        "source": claim.get("source"),
        "verified": None if claim.get("verified") is None else probability(claim["verified"]),
    }


def _attempt(attempt: AttemptContent) -> dict[str, Any]:
    return {
        "name": attempt.name,
        "text": attempt.text,
        "verdict": attempt.verdict,
        "score": "none" if attempt.score is None else probability(attempt.score),
        "reason": attempt.reason,
        "change": attempt.change,
    }


def _pictures(answer: Mapping[str, Any], view: AnswerView) -> list[dict[str, Any]]:
    domain = answer.get("domain") or []
    return [
        {
            "source": picture.source,
            "width": picture.width,
            "height": picture.height,
            "data": base64.b64encode(picture.jpeg).decode("ascii"),
            "usual": domain[number] if number < len(domain) else None,
            "boxes": _boxes(answer, picture),
        }
        for number, picture in enumerate(view.pictures)
    ]


def _boxes(answer: Mapping[str, Any], picture: PictureView) -> list[dict[str, Any]]:
    """The boxes of the claims about a picture, in its pixels; labels stay inside of it."""
    unit = max(picture.width, picture.height) / 420
    boxes: list[dict[str, Any]] = []
    for number, claim in enumerate(answer["claims"]):
        if claim.get("box") is None or claim.get("source") != picture.source:
            continue
        (left, right), (top, bottom) = sorted(claim["box"][::2]), sorted(claim["box"][1::2])
        x, y = left * picture.width, top * picture.height
        above = y >= _LABEL * unit
        grounding = claim["grounding"]
        label = claim["noun"] or claim["text"].strip()
        boxes.append(
            {
                "claim": number,
                "level": level(grounding),
                "x": round(x, 1),
                "y": round(y, 1),
                "width": round((right - left) * picture.width, 1),
                "height": round((bottom - top) * picture.height, 1),
                "unit": round(unit, 3),
                "label_y": round(y - 4 * unit if above else y + 12 * unit, 1),
                "label": label if grounding is None else f"{label} {probability(grounding)}",
            }
        )
    return boxes
