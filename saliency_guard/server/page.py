"""The page to try a model in a browser: pictures and a question in, the answer's page out."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field

from saliency_guard.report.page.render import assets, content_policy, own_style_and_script, rendered
from saliency_guard.server.body import StrictBody
from saliency_guard.server.errors import invalid
from saliency_guard.server.messages import core_messages
from saliency_guard.server.record import RequestRecord, new_id
from saliency_guard.server.state import ServerState

_MOST_TOKENS = 4096


class PageBody(StrictBody):
    """The body of ``POST /v1/page``: a prompt, and an answer from anywhere or how to write one."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    model: str | None = None
    text: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] = 128
    temperature: float | None = None
    seed: int | None = None


async def answer_page(state: ServerState, record: RequestRecord, body: PageBody) -> dict[str, Any]:
    """The reply of ``POST /v1/page``: the answer's page as one HTML document.

    Raises:
        RequestError: if there are options of writing beside a text.
        SaliencyGuardError: as of `LVLM.generate`, `LVLM.score` and `LVLM.explain`.
    """
    if body.text is not None and (body.temperature is not None or body.seed is not None):
        msg = "temperature and seed are of answers that are written here: leave them out, or text"
        raise invalid(msg, "text")
    model = state.require_name(body.model)
    messages = await asyncio.to_thread(core_messages, body.messages, state.settings)
    lvlm = state.lvlm
    async with state.queue.slot():
        if body.text is not None:
            answer = await lvlm.ascore(messages, body.text)
        else:
            answer = await lvlm.agenerate(
                messages,
                max_new_tokens=body.max_tokens,
                temperature=body.temperature or 0.0,
                seed=body.seed,
            )
        record.used(answer.usage)
        record.groundings.append(answer.grounding)
        if answer.tokens:
            answer = await asyncio.to_thread(lvlm.explain, messages, answer)
    html = await asyncio.to_thread(answer.to_html)
    return {"id": new_id("page"), "object": "page", "model": model, "grounding": answer.grounding, "html": html}


def try_page(model: str, pictures: int) -> str:
    """The HTML document with the form.

    Args:
        model: what it is called.
        pictures: how many are taken.
    """
    template, style, script = assets(__package__, "try")
    inner_style, inner_script = own_style_and_script()
    # The answer's page stands in a frame of this one, and under its policy too.
    policy = content_policy([style, inner_style], [script, inner_script]) + "; connect-src 'self'; frame-src 'self'"
    return rendered(template, style, script, policy=policy, model=model, pictures=pictures)
