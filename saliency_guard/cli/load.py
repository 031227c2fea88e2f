"""``saliency-guard bench serve``: several clients of a server, compared with one."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.shared import progress, reported

if TYPE_CHECKING:
    from saliency_guard.evaluation.load import Load

_CLIENTS, _REQUESTS, _TOKENS, _ROUNDS = 8, 2, 64, 3
_SECTION = "serve"


def load_command(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/serve"),
    clients: Annotated[int, typer.Option(min=2, help="Clients that ask at the same time.")] = _CLIENTS,
    rounds: Annotated[int | None, typer.Option(min=1, help="Number of rounds.")] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """Measure a server's tokens a second and latencies, with one client and with several."""
    import httpx

    from saliency_guard.evaluation import load
    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.files import output_folder

    count = rounds or (1 if quick else _ROUNDS)
    requests, tokens = (1, 4) if quick else (_REQUESTS, _TOKENS)

    async def rows(url: str) -> list[tuple[Load, Load]]:
        with progress("rounds", count) as done:
            async with httpx.AsyncClient(base_url=url) as client:
                return await load.compared(
                    client, clients=clients, requests=requests, tokens=tokens, rounds=count, on_round=done
                )

    with reported():
        check_page(page, _SECTION, quick=quick)
        output_folder(out)
        with load.served(2 if quick else None, clients=clients) as url:
            measured = asyncio.run(rows(url))
        loads = [{"one": asdict(single), "several": asdict(several)} for single, several in measured]
        write_result(out / "result.json", {"rounds": loads})
        options = {"clients": clients if clients != _CLIENTS else None, "rounds": rounds, "page": page}
        section = _section(measured, tokens, command_line(_SECTION, options, quick=quick))
        if page is not None:
            replace_section(page, _SECTION, section)
    print(section)


def _section(rows: Sequence[tuple[Load, Load]], tokens: int, command: str) -> str:
    import torch
    import transformers

    from saliency_guard.evaluation.evidence import table
    from saliency_guard.evaluation.load import PERCENTILES

    alone, together = [single for single, _ in rows], [many for _, many in rows]
    ratio = statistics.median(many.rate / single.rate for single, many in rows)
    header = ["", "tokens a second", *(f"p{percent}, seconds" for percent in PERCENTILES)]
    lines = [
        [
            f"{loads[0].clients} client{'s' if loads[0].clients > 1 else ''}",
            f"{statistics.median(load.rate for load in loads):.1f}",
            *(f"{statistics.median(load.percentile(percent) for load in loads):.2f}" for percent in PERCENTILES),
        ]
        for loads in (alone, together)
    ]
    requests = len(together[0].latencies) // together[0].clients
    return "\n\n".join(
        [
            f"```\n{command}\n```",
            (
                f"Random LLaVA of about 300 M parameters behind `saliency-guard serve`, torch {torch.__version__}, "
                f"transformers {transformers.__version__}, the clients on the same machine; {requests} request(s) of "
                f"each client, each about a picture of its own (576 positions) and {tokens} tokens long, with "
                f"grounding; median of {len(rows)} round(s), in turns."
            ),
            table(header, lines),
            f"{together[0].clients} clients together get {ratio:.2f} times the tokens a second of one.",
        ]
    )
