"""An answer in the terminal: tokens coloured by saliency, their sources, rejected candidates.

Needs the extra ``cli`` (rich).
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from saliency_guard.answer import GroundedAnswer, TokenGrounding

# Saliency relative to the answer's mean, from weak to strong. Raw, not calibrated: the colours compare the tokens of an
# answer, and do not show which are right or wrong.
_COLOURS = ((0.5, "white on red3"), (0.75, "black on orange1"), (1.25, "black on khaki1"))
_STRONG = "black on pale_green3"
_FIRST = "dim"


def answer_view(answer: GroundedAnswer, title: str) -> RenderableType:
    """An answer with its tokens, its sources and its rejected candidates."""
    parts: list[RenderableType] = [
        Panel(
            coloured(answer), title=Text(title), subtitle=_summary(answer), title_align="left", subtitle_align="left"
        ),
        _legend(),
    ]
    if answer.shares:
        parts.append(shares_table(answer))
    if any(token.rejected for token in answer.tokens):
        parts.append(rejections_table(answer))
    return Group(*parts)


def coloured(answer: GroundedAnswer) -> Text:
    """The answer's text, with the colour of each token showing its saliency."""
    mean = answer.saliency
    result = Text()
    for token in answer.tokens:
        result.append(token.text, style=_style(token, mean))
    return result


def _style(token: TokenGrounding, mean: float | None) -> str:
    if token.saliency is None or not mean:
        return _FIRST
    ratio = token.saliency / mean
    return next((style for limit, style in _COLOURS if ratio < limit), _STRONG)


def _legend() -> Text:
    text = Text("saliency against the answer's mean: ")
    for label, style in zip(
        ("under 0.5", "to 0.75", "to 1.25", "over"), (*(s for _, s in _COLOURS), _STRONG), strict=True
    ):
        text.append(f" {label} ", style=style)
    return text.append("  (first token: none)", style=_FIRST)


def _summary(answer: GroundedAnswer) -> str:
    mean = "none" if answer.saliency is None else f"{answer.saliency:.3f}"
    rejected = sum(len(token.rejected) for token in answer.tokens)
    return f"{len(answer.tokens)} tokens, mean saliency {mean}, {rejected} rejected, finished by {answer.finish_reason}"


def shares_table(answer: GroundedAnswer) -> Table:
    """The share of each source, and the token with the largest share."""
    table = Table(title="What the answer rests on", title_justify="left")
    table.add_column("source")
    table.add_column("share", justify="right")
    table.add_column("most: token", overflow="fold")
    table.add_column("its share", justify="right")
    for source, share in answer.shares.items():
        strongest = max(answer.tokens, key=lambda token: token.shares.get(source, 0.0))
        table.add_row(source, f"{share:.1%}", Text(repr(strongest.text)), f"{strongest.shares.get(source, 0.0):.1%}")
    return table


def tokens_table(answer: GroundedAnswer) -> Table:
    """Every token with its numbers."""
    table = Table(title="Token by token", title_justify="left")
    sources = list(answer.shares)
    for name in ("token", "logprob", "saliency", "threshold", *sources):
        table.add_column(name, justify="left" if name == "token" else "right")
    mean = answer.saliency
    for token in answer.tokens:
        table.add_row(
            Text(repr(token.text), style=_style(token, mean)),
            f"{token.logprob:.2f}",
            "" if token.saliency is None else f"{token.saliency:.3f}",
            "" if token.threshold is None else f"{token.threshold:.3f}",
            *(f"{token.shares.get(source, 0.0):.0%}" for source in sources),
        )
    return table


def rejections_table(answer: GroundedAnswer) -> Table:
    """The candidates that SGRS rejected, and the tokens that were accepted instead."""
    table = Table(title="Rejected by SGRS", title_justify="left")
    for name in ("position", "rejected", "its saliency", "threshold", "taken instead", "its saliency "):
        table.add_column(name, justify="left" if name in {"rejected", "taken instead"} else "right")
    for token in answer.tokens:
        for rejected in token.rejected:
            table.add_row(
                str(token.position),
                Text(repr(rejected.text)),
                f"{rejected.saliency:.3f}",
                f"{token.threshold or 0.0:.3f}",
                Text(repr(token.text)),
                "" if token.saliency is None else f"{token.saliency:.3f}",
            )
    return table


def comparison_table(answers: Mapping[str, GroundedAnswer]) -> Table:
    """Several answers to the same question side by side, by raw means over their tokens."""
    table = Table(title="Side by side (means over tokens)", title_justify="left")
    table.add_column("")
    for name in answers:
        table.add_column(name, justify="right")
    rows: dict[str, list[str]] = {
        "grounding (calibrated)": [
            f"{answer.grounding:.3f}" if answer.grounding is not None and answer.calibrated else ""
            for answer in answers.values()
        ],
        "saliency (Eq. 6)": [
            "" if answer.saliency is None else f"{answer.saliency:.3f}" for answer in answers.values()
        ],
        "log-probability": [
            f"{sum(token.logprob for token in answer.tokens) / max(1, len(answer.tokens)):.2f}"
            for answer in answers.values()
        ],
    }
    for source in dict.fromkeys(source for answer in answers.values() for source in answer.shares):
        rows[f"share on {source}"] = [f"{answer.shares.get(source, 0.0):.1%}" for answer in answers.values()]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table
