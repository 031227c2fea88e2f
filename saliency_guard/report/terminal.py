"""An answer in the terminal: how well it is grounded, claim by claim, what it rests on, rejected candidates.

Colours show calibrated groundings and nothing else: raw saliency is no measure of trust. Needs the extra ``cli``.
"""

from __future__ import annotations

from collections.abc import Mapping
from unicodedata import category

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from saliency_guard.answer import Claim, GroundedAnswer, Step, TokenGrounding
from saliency_guard.report.page.content import HIGH, LOW, level

_COLOURS = {"low": "white on red3", "middle": "black on khaki1", "high": "black on pale_green3"}


def answer_view(answer: GroundedAnswer, title: str) -> RenderableType:
    """An answer: the verdict first, then its claims, its sources and its rejected candidates."""
    parts: list[RenderableType] = [
        verdict(answer),
        Panel(
            coloured(answer),
            title=Text(_harmless(title)),
            subtitle=_summary(answer),
            title_align="left",
            subtitle_align="left",
        ),
    ]
    if answer.claims:
        parts.append(claims_table(answer))
    if any(claim.grounding is not None for claim in answer.claims):
        parts.append(_legend())
    if answer.shares:
        parts.append(shares_table(answer))
    if any(token.rejected for token in answer.tokens):
        parts.append(rejections_table(answer))
    return Group(*parts)


class StreamView:
    """An answer that is being written: its text so far, and what its last token rests on.

    Nothing is coloured before the answer is judged: what a token rests on is no measure of trust.
    """

    def __init__(self) -> None:
        self._tokens: list[TokenGrounding] = []
        self._answer: GroundedAnswer | None = None

    def take(self, step: Step) -> None:
        """The next step of the stream."""
        if step.token is not None:
            self._tokens.append(step.token)
        self._answer = step.answer or self._answer

    @property
    def whole(self) -> GroundedAnswer:
        """The answer, once its stream has ended.

        Raises:
            RuntimeError: before that.
        """
        if self._answer is None:
            msg = "the stream has not ended"
            raise RuntimeError(msg)
        return self._answer

    def __rich__(self) -> RenderableType:
        """What is shown now."""
        if self._answer is not None:
            return Panel(coloured(self._answer), title="judged", title_align="left")
        text = Text(_harmless("".join(token.text for token in self._tokens)), style="dim")
        shares = self._tokens[-1].shares if self._tokens else {}
        rests = ", ".join(f"{source} {share:.0%}" for source, share in shares.items())
        count = f"{len(self._tokens)} tokens"
        return Panel(
            text,
            title="not judged yet",
            title_align="left",
            subtitle=Text(f"{count}; the last rests on {rests}" if rests else count),
            subtitle_align="left",
        )


def verdict(answer: GroundedAnswer) -> Text:
    """The probability that all of the answer is true, or why there is none."""
    if answer.grounding is None:
        return Text(f"No grounding: {answer.grounding_reason or 'the answer was not judged'}", style="bold")
    text = Text("Grounding ", style="bold").append(f" {answer.grounding:.2f} ", style=_style(answer.grounding))
    text.append(": the probability that all of its claims are true")
    if not answer.calibrated:
        text.append(" (by a calibration that was fitted for another model)")
    return text


def coloured(answer: GroundedAnswer) -> Text:
    """The answer's text; claims that have a grounding are coloured by it."""
    text = Text(_harmless(answer.text))
    for claim in sorted(answer.claims, key=lambda claim: claim.span[0] - claim.span[1]):  # Sentences below their parts.
        if claim.grounding is not None:
            text.stylize(_style(claim.grounding), *claim.span)
    return text


def _harmless(text: str) -> str:
    """The same with a sign in the place of every one that a terminal would obey; its length stays."""
    return "".join(sign if sign in "\n\t" or category(sign) != "Cc" else "\ufffd" for sign in text)


def _style(grounding: float) -> str:
    return _COLOURS[level(grounding)]


def _legend() -> Text:
    labels = {"low": f"below {LOW}", "middle": f"to {HIGH}", "high": "above"}
    text = Text("grounding of a claim: ")
    for name, label in labels.items():
        text.append(f" {label} ", style=_COLOURS[name])
    return text


def claims_table(answer: GroundedAnswer) -> Table:
    """Every claim with its grounding, and what the model says when it is asked about it alone."""
    table = Table(title="What it claims", title_justify="left")
    table.add_column("claim", overflow="fold")
    table.add_column("kind")
    table.add_column("grounding", justify="right")
    table.add_column("verified", justify="right")
    table.add_column("source")
    for claim in answer.claims:
        table.add_row(
            _claim_text(claim), claim.kind, *map(_number, (claim.grounding, claim.verified)), Text(claim.source or "")
        )
    return table


def _claim_text(claim: Claim) -> Text:
    return Text(_harmless(claim.text), style="" if claim.grounding is None else _style(claim.grounding))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _summary(answer: GroundedAnswer) -> str:
    rejected = sum(len(token.rejected) for token in answer.tokens)
    rejections = f", {rejected} candidates rejected" if rejected else ""
    return f"{len(answer.tokens)} tokens{rejections}, finished by {answer.finish_reason}"


def shares_table(answer: GroundedAnswer) -> Table:
    """The share of each source, and the token with the largest share."""
    table = Table(title="What the answer rests on", title_justify="left")
    table.add_column("source")
    table.add_column("share", justify="right")
    table.add_column("most: token", overflow="fold")
    table.add_column("its share", justify="right")
    for source, share in answer.shares.items():
        strongest = max(answer.tokens, key=lambda token: token.shares.get(source, 0.0))
        table.add_row(
            Text(source), f"{share:.1%}", Text(repr(strongest.text)), f"{strongest.shares.get(source, 0.0):.1%}"
        )
    return table


def tokens_table(answer: GroundedAnswer) -> Table:
    """Every token with its numbers."""
    table = Table(title="Token by token", title_justify="left")
    sources = list(answer.shares)
    for name in ("token", "logprob", "saliency", "threshold", *sources):
        table.add_column(Text(name), justify="left" if name == "token" else "right")
    for token in answer.tokens:
        table.add_row(
            Text(repr(token.text)),
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
        table.add_row(Text(name), *cells)
    return table
