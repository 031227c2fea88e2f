"""POPE: yes/no questions about objects, and what a model's answers come to (Li et al., arXiv 2305.10355)."""

from __future__ import annotations

from collections.abc import Iterable

from saliency_guard.evaluation.statistics import ratio

_NEGATIONS = frozenset({"No", "no", "not"})


def says_yes(answer: str) -> bool:
    """POPE's own rule, so that numbers compare: no if "No", "no" or "not" is a word before the first full stop.

    Everything else is a yes, ``"There isn't."`` and silence included.
    """
    return not _NEGATIONS & set(answer.split(".", 1)[0].replace(",", "").split(" "))


def pope(answers: Iterable[tuple[bool, bool]]) -> dict[str, float]:
    """Accuracy, precision, recall, F1 (of yes) and the part of yes.

    Args:
        answers: (the truth is yes, the model says yes) per question.

    Returns:
        NaN where a ratio has nothing below it.
    """
    pairs = list(answers)
    hits = sum(truth and said for truth, said in pairs)
    said_yes = sum(said for _, said in pairs)
    true_yes = sum(truth for truth, _ in pairs)
    precision, recall = ratio(hits, said_yes), ratio(hits, true_yes)
    return {
        "accuracy": ratio(sum(truth == said for truth, said in pairs), len(pairs)),
        "precision": precision,
        "recall": recall,
        "f1": ratio(2 * hits, said_yes + true_yes),
        "yes": ratio(said_yes, len(pairs)),
        "questions": len(pairs),
    }
