"""Results as the tables of docs/evidence.md; each command rewrites its own section and nothing else."""

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
    """Put ``text`` between ``<!-- begin name -->`` and ``<!-- end name -->``.

    Raises:
        InputError: if the page has no such section.
    """
    head, tail = around_section(page, name)
    replace_file(page, f"{head}\n\n{text.strip()}\n\n{tail}".encode())


def around_section(page: Path, name: str) -> tuple[str, str]:
    """What stands before and after a section's text, its two marks included.

    Raises:
        InputError: if the page cannot be read, or has no such section.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    whole = read_text(page)
    head, found_begin, rest = whole.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_begin or not found_end:
        msg = f"{page} has no section {name!r}: it is to stand between {begin} and {end}"
        raise InputError(msg)
    return f"{head}{begin}", f"{end}{tail}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ruler, *rows))


def detection_section(results: Sequence[SplitResult], command: str, *, model: str, samples: int) -> str:
    """Two tables a split and way of writing (what each finds; what each part adds), and what S itself shows."""
    splits = ", ".join(title(result.split) for result in results)
    parts = [f"```\n{command}\n```", f"Model {model}; splits {splits}; {samples} resamples."]
    for result in results:
        parts.append(f"### {title(result.split)}")
        parts += [part for mode in result.modes.values() for part in _mode_parts(result, mode)]
    header = ["", "mean S, true", "mean S, hallucinated", "lowest quarter", "second", "third", "highest quarter"]
    rows = [
        [
            f"{title(result.split)}, {mode.mode}",
            *(f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in mode.saliency_means),
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
    ranked = [one for one in mode.ranks if one.kind != "without"]
    yield table(
        ["", "high means", "AUROC", "AUPR", "in position bins", "within words"],
        [
            [
                f"{_KINDS[one.kind]}{one.name}",
                one.high_means,
                str(one.auroc),
                str(one.aupr),
                str(one.within_bins),
                str(one.within_words),
            ]
            for one in ranked
        ],
    )
    without = [one for one in mode.ranks if one.kind == "without"]
    yield table(
        ["all, without", "AUROC", "lost"],
        [[one.name, str(one.auroc), _signed(one.lost) if one.lost is not None else ""] for one in without],
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
    """The guards compared, the sweeps, and POPE under each guard.

    Args:
        results: of the main comparison.
        sweeps: over alpha and beta.
        answers: to yes/no questions.
        command: what was run.
        model: which model.
        split: which pictures.
        pictures: how many for the comparison, for each sweep, and for POPE.
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
