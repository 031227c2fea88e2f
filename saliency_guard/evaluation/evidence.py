"""Writes results as tables into docs/evidence.md; each command replaces only its own section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from saliency_guard.errors import InputError
from saliency_guard.evaluation.mitigation import GuardResult
from saliency_guard.evaluation.ranking import ModeResult, SplitResult
from saliency_guard.evaluation.statistics import Interval
from saliency_guard.evaluation.world import title
from saliency_guard.evaluation.world_pope import AnswersResult
from saliency_guard.storage import read_text, replace_file

_KINDS = {
    "user": "**what a user gets**: ",
    "signal": "",
    "combination": "together: ",
    "transferred": "fitted on the training styles: ",
}


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
        ["", "high means", "of mentions", "AUROC", "AUPR", "in position bins", "within words"],
        [
            [
                f"{_KINDS[rank.kind]}{rank.name}",
                rank.high_means,
                f"{rank.known:.0%}",
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
    captions: Mapping[str, Sequence[GuardResult]],
    sweeps: Sequence[GuardResult],
    answers: Sequence[AnswersResult],
    command: str,
    *,
    model: str,
    pictures: tuple[int, int, int],
) -> str:
    """The comparison of the guards, the sweeps, and POPE with each guard.

    Args:
        captions: results of the main comparison, by split; sweeps and questions are about the first one.
        sweeps: results of the sweeps over the guards' settings.
        answers: results of the yes/no questions.
        command: the command that was run.
        model: name of the model.
        pictures: number of pictures for the comparison, for each sweep, and for POPE.
    """
    kinds = list(answers[0].values) if answers else []
    parts = [f"```\n{command}\n```", f"Model {model}."]
    for split, results in captions.items():
        parts += [
            f"### Captions of {pictures[0]} pictures, {title(split)}",
            (
                "Below each value its difference from nothing on the same pictures. *Wrong claims*: of all that is "
                "claimed (objects, numbers, places). *True claims kept*: as a part of those without a guard. "
                "*Unjudged*: the calibration gave no number, and the caption was left as it was."
            ),
            table(_GUARD_HEADER, [row for result in results for row in _guard_rows(result)]),
        ]
    parts += [
        f"### Settings, greedy, {pictures[1]} pictures, {title(next(iter(captions)))}",
        table(_GUARD_HEADER, [row for result in sweeps for row in _guard_rows(result)]),
        f"### Yes/no questions (POPE), {2 * pictures[2]} of each kind, accuracy (F1 of yes)",
        table(["", *kinds], [row for result in answers for row in _answer_rows(result)]),
    ]
    return "\n\n".join(parts)


_SHOWN = MappingProxyType(
    {
        "chair_s": "CHAIR_S",
        "chair_i": "CHAIR_I",
        "recall": "recall",
        "wrong_claims": "wrong claims",
        "true_claims": "true claims kept",
        "empty": "empty",
        "unjudged": "unjudged",
        "words": "words",
        "rejections_per_100_tokens": "rejections per 100 tokens",
    }
)
_GUARD_HEADER = ("", *_SHOWN.values())


def _guard_rows(result: GuardResult) -> list[list[str]]:
    values = result.values | {"true_claims": result.true_claims_kept}
    rows = [[_name(result), *(f"{values[key]:.3f}" for key in _SHOWN)]]
    if result.differences:
        # Kept true claims are a part of those without a guard already.
        rows.append(["", *("" if key == "true_claims" else _signed(result.differences[key]) for key in _SHOWN)])
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
