"""Writes results as tables into docs/evidence.md; each command replaces only its own section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from saliency_guard.errors import InputError
from saliency_guard.evaluation.mitigation import AnswersResult, GuardResult
from saliency_guard.evaluation.ranking import ModeResult, SplitResult
from saliency_guard.evaluation.statistics import Interval
from saliency_guard.evaluation.world import title
from saliency_guard.storage import read_text, replace_file

_KINDS = {"signal": "", "combination": "together: ", "transferred": "fitted on the training styles: "}


def replace_section(page: Path, name: str, text: str) -> None:
    """Replace the text between ``<!-- begin name -->`` and ``<!-- end name -->``.

    Raises:
        InputError: if the page has no such section.
    """
    head, tail = around_section(page, name)
    replace_file(page, f"{head}\n\n{text.strip()}\n\n{tail}".encode())


def around_section(page: Path, name: str) -> tuple[str, str]:
    """The page's text before and after a section, with the section's two markers.

    Raises:
        InputError: if the page cannot be read, or has no such section.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = read_text(page)
    head, begin_marker, rest = text.partition(begin)
    _, end_marker, tail = rest.partition(end)
    if not begin_marker or not end_marker:
        msg = f"{page} has no section {name!r}: add the markers {begin} and {end}"
        raise InputError(msg)
    return f"{head}{begin}", f"{end}{tail}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column has text, the others have numbers."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ruler, *rows))


def detection_section(results: Sequence[SplitResult], command: str, *, model: str, samples: int) -> str:
    """Two tables per split and mode (rows of the ranking, and ablations), and the quartiles of S."""
    splits = ", ".join(title(result.split) for result in results)
    parts = [f"```\n{command}\n```", f"Model {model}; splits {splits}; {samples} resamples."]
    for result in results:
        parts.append(f"### {title(result.split)}")
        parts += [part for mode in result.modes.values() for part in _mode_parts(result, mode)]
    header = ["", "mean S, true", "mean S, hallucinated", "lowest quarter", "second", "third", "highest quarter"]
    rows = [
        [
            f"{title(result.split)}, {mode.mode}",
            *(f"{mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}]" for mean in mode.saliency_means),
            *(str(rate) for rate in mode.quartiles),
        ]
        for result in results
        for mode in result.modes.values()
    ]
    parts += [
        "### The paper's observation: saliency of true and of hallucinated mentions",
        "Hallucination rate by quarter of the mentions, in order of S.",
        table(header, rows),
    ]
    return "\n\n".join(parts)


def _mode_parts(result: SplitResult, mode: ModeResult) -> Iterator[str]:
    yield (
        f"**{mode.mode.capitalize()} captions** of {result.pictures} pictures: {mode.mentions} mentions, "
        f"{mode.hallucinated} of them hallucinated; tested on {mode.tested}, {mode.tested_hallucinated} of them "
        "hallucinated."
    )
    if not mode.ranks:
        yield "Too few mentions of one kind in a half: nothing is fitted."
        return
    detectors = [rank for rank in mode.ranks if rank.kind != "without"]
    yield table(
        ["", "high means", "AUROC", "AUPR", "in position bins", "within words"],
        [
            [
                f"{_KINDS[rank.kind]}{rank.name}",
                rank.high_means,
                str(rank.auroc),
                str(rank.aupr),
                str(rank.within_bins),
                str(rank.within_words),
            ]
            for rank in detectors
        ],
    )
    ablations = [rank for rank in mode.ranks if rank.kind == "without"]
    yield table(
        ["all, without", "AUROC", "lost"],
        [[rank.name, str(rank.auroc), _signed(rank.lost) if rank.lost is not None else ""] for rank in ablations],
    )


def mitigation_section(
    results: Sequence[GuardResult],
    sweeps: Sequence[GuardResult],
    answers: Sequence[AnswersResult],
    command: str,
    *,
    model: str,
    split: str,
    pictures: tuple[int, int, int],
) -> str:
    """The comparison of the guards, the sweeps, and POPE with each guard.

    Args:
        results: results of the main comparison.
        sweeps: results of the sweeps over alpha, min_p and beta.
        answers: results of the yes/no questions.
        command: the command that was run.
        model: name of the model.
        split: name of the split.
        pictures: number of pictures for the comparison, for each sweep, and for POPE.
    """
    header = ["", "CHAIR_S", "CHAIR_I", "recall", "words", "rejections per 100 tokens"]
    kinds = list(answers[0].values) if answers else []
    return "\n\n".join(
        [
            f"```\n{command}\n```",
            (
                f"Model {model}, {split}, {pictures[0]} pictures; below each value its difference from nothing on the "
                "same pictures."
            ),
            table(header, [row for result in results for row in _guard_rows(result)]),
            f"Sweeps, greedy, {pictures[1]} pictures:",
            table(header, [row for result in sweeps for row in _guard_rows(result)]),
            f"Yes/no questions (POPE), {2 * pictures[2]} of each kind, accuracy (F1 of yes):",
            table(["", *kinds], [row for result in answers for row in _answer_rows(result)]),
        ]
    )


def _guard_rows(result: GuardResult) -> list[list[str]]:
    rows = [[_name(result), *(f"{value:.3f}" for value in result.values.values())]]
    if result.differences:
        rows.append(["", *(_signed(result.differences[key]) for key in result.values)])
    return rows


def _answer_rows(result: AnswersResult) -> list[list[str]]:
    rows = [[_name(result), *(f"{kind['accuracy']:.3f} ({kind['f1']:.3f})" for kind in result.values.values())]]
    if result.differences:
        rows.append(["", *(_signed(difference) for difference in result.differences.values())])
    return rows


def _name(result: GuardResult | AnswersResult) -> str:
    return f"{result.guard}, {'sampled' if result.sampled else 'greedy'}"


def _signed(difference: Interval) -> str:
    return f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
