"""POPE: metrics of the answers to yes/no questions about objects (Li et al., arXiv 2305.10355)."""

from __future__ import annotations

from collections.abc import Iterable

from saliency_guard.evaluation.statistics import ratio

_NEGATIONS = frozenset({"No", "no", "not"})


def says_yes(answer: str) -> bool:
    """POPE's rule, so that numbers are comparable: no if "No", "no" or "not" is a word before the first full stop.

    Everything else is a yes, also ``"There isn't."`` and an empty answer.
    """
    return not _NEGATIONS & set(answer.split(".", 1)[0].replace(",", "").split(" "))


def pope(answers: Iterable[tuple[bool, bool]]) -> dict[str, float]:
    """Accuracy, precision, recall, F1 (of yes) and the share of yes answers.

    Args:
        answers: (whether the truth is yes, whether the answer is yes) for each question.

    Returns:
        The metrics; NaN for a ratio with a denominator of 0.
    """
    pairs = list(answers)
    hits = sum(truth and answer for truth, answer in pairs)
    yes_answers = sum(answer for _, answer in pairs)
    yes_truths = sum(truth for truth, _ in pairs)
    precision, recall = ratio(hits, yes_answers), ratio(hits, yes_truths)
    return {
        "accuracy": ratio(sum(truth == answer for truth, answer in pairs), len(pairs)),
        "precision": precision,
        "recall": recall,
        "f1": ratio(2 * hits, yes_answers + yes_truths),
        "yes": ratio(yes_answers, len(pairs)),
        "questions": len(pairs),
    }
