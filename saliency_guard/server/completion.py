"""Chat completions: several answers side by side, whole or as a stream; nothing that a policy refused is in either."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from saliency_guard import __version__
from saliency_guard.adapters.run import Finished, RunEvent, fields_of, run_events
from saliency_guard.answer import TokenGrounding, Usage
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.guard.outcome import LowGroundingError
from saliency_guard.lvlm import LVLM
from saliency_guard.server.chat_body import ChatCall
from saliency_guard.server.choices import ChoiceWriter
from saliency_guard.server.record import RequestRecord, new_id
from saliency_guard.server.state import ServerState
from saliency_guard.server.top_logprobs import TopLogprobs
from saliency_guard.worker import in_thread

Item = TypeVar("Item")


@dataclass(slots=True)
class Completion:
    """One chat completion.

    Attributes:
        state: the server.
        call: the request's body, parsed.
        record: of the request.
        model: what the request calls the model.
    """

    state: ServerState
    call: ChatCall
    record: RequestRecord
    model: str
    _id: str = field(default_factory=lambda: new_id("chatcmpl"))
    _created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> dict[str, Any]:
        """The completion, once all its answers are there."""
        choices: dict[int, dict[str, Any]] = {}
        ends: list[Finished] = []
        async with self.state.queue.slot():
            work = await self._work()
            async with aclosing(merged([choice.events() for choice in work.choices])) as events:
                async for index, event in events:
                    if isinstance(event, Finished):
                        choices[index] = work.choices[index].writer.choice(event)
                        ends.append(event)
        head = self._head("chat.completion")
        return {
            **head,
            "choices": [choices[index] for index in sorted(choices)],
            "usage": self._usage(ends),
            **work.prompt_ids(),
        }

    async def stream(self) -> AsyncGenerator[dict[str, Any], None]:
        """The completion, piece by piece; held back until a policy has decided."""
        head = self._head("chat.completion.chunk")
        head |= {"usage": None} if self.call.include_usage else {}
        ends: list[Finished] = []
        begun: set[int] = set()
        async with self.state.queue.slot():
            work = await self._work()
            async with aclosing(merged([choice.events() for choice in work.choices])) as events:
                async for index, event in events:
                    writer = work.choices[index].writer
                    pieces: list[dict[str, Any]] = []
                    if isinstance(event, Finished):
                        pieces += writer.rest(event)
                        ends.append(event)
                    elif isinstance(event, TokenGrounding) and self.call.live:
                        pieces.append(writer.piece(event))
                    if pieces and index not in begun:
                        self.record.token()
                        first = {**head, "choices": [writer.first()], **({} if begun else work.prompt_ids())}
                        begun.add(index)
                        yield first
                    for piece in pieces:
                        yield {**head, "choices": [piece]}
        if self.call.include_usage:
            yield {**head, "choices": [], "usage": self._usage(ends)}
        else:
            self._usage(ends)

    def _head(self, kind: str) -> dict[str, Any]:
        fingerprint = f"saliency-guard-{__version__}"
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.model,
            "system_fingerprint": fingerprint,
        }

    async def _work(self) -> _Work:
        """The answers to write; their prompt is prepared here where it is needed more than once."""
        request = self.call.request
        lvlm = self.state.lvlm.with_tools(request.tools) if request.tools else self.state.lvlm
        prompt = None
        if self.call.choices > 1 or self.call.token_ids or self.call.top_logprobs:
            prompt = await asyncio.to_thread(lvlm.prepare, self.call.messages)
        choices = [_Choice(self, lvlm, prompt, index) for index in range(self.call.choices)]
        return _Work(choices, prompt if self.call.token_ids else None)

    def _usage(self, ends: Sequence[Finished]) -> dict[str, Any]:
        """Tokens: the prompt once, and all that was written, refused attempts included."""
        written = sum(end.usage.completion_tokens for end in ends)
        prompt = max((answer.usage.prompt_tokens for end in ends for answer in end.considered), default=0)
        self.record.used(Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written))
        for end in ends:
            self.record.groundings.append(end.answer.grounding if end.answer is not None else None)
            self.record.decisions.append(end.outcome.decision if end.outcome is not None else None)
        if self.state.settings.log_contents:
            self.record.contents = {"messages": _told(self.call.messages), "answers": [end.text for end in ends]}
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


@dataclass(frozen=True, slots=True)
class _Work:
    """The answers of one completion.

    Attributes:
        choices: each of them.
        prompt: None unless the reply has its ids.
    """

    choices: list[_Choice]
    prompt: PreparedPrompt | None

    def prompt_ids(self) -> dict[str, Any]:
        """The ids that the model read: pictures take as many positions as they have for the model."""
        if self.prompt is None:
            return {}
        return {"prompt_token_ids": self.prompt.inputs["input_ids"][0].tolist()}


class _Choice:
    """One of the answers.

    Args:
        completion: whose answer it is.
        lvlm: the model, told of the tools.
        prompt: prepared; None where it is not yet. A policy prepares its own.
        index: of the choice.
    """

    def __init__(self, completion: Completion, lvlm: LVLM, prompt: PreparedPrompt | None, index: int) -> None:
        call = completion.call
        self._completion = completion
        self._call = call
        self._lvlm = lvlm
        self._prompt = prompt
        self._generation = dict(call.request.generation)
        if self._generation["seed"] is not None:  # No two choices draw the same, in no attempt.
            attempts = call.request.policy.max_retries + 1 if call.request.policy is not None else 1
            self._generation["seed"] += index * attempts
        alternatives = None
        if call.top_logprobs and prompt is not None:
            alternatives = TopLogprobs(call.top_logprobs, prompt.inputs["input_ids"].shape[1])
            self._generation["logits_processor"] = alternatives
        self.writer = ChoiceWriter(lvlm, call, index, alternatives)

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        """Tokens as they are written, or attempts as they are made; the end last."""
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        self._completion.state.metrics.answer(event)
                    yield event
        except LowGroundingError as error:
            self._completion.state.metrics.raised(error)
            record = self._completion.record
            record.decisions.append("raised")
            for attempt in error.attempts:
                record.used(attempt.answer.usage)
            raise

    async def _events(self) -> AsyncGenerator[RunEvent, None]:
        cancel = threading.Event()
        async with aclosing(in_thread(self._run(cancel), cancel)) as events:
            async for event in events:
                yield event

    def _run(self, cancel: threading.Event) -> Generator[RunEvent, None, None]:
        """The events to wait for: tokens of a stream, and the end."""
        request, live = self._call.request, self._call.live
        policy, fields = request.policy, fields_of(self._lvlm, request)
        prompt = self._call.messages if self._prompt is None or policy is not None else self._prompt
        work = run_events(self._lvlm, prompt, self._generation, cancel=cancel, policy=policy, live=live, fields=fields)
        with closing(work):
            for event in work:
                if live or isinstance(event, Finished):
                    yield event


async def merged(sources: Sequence[AsyncGenerator[Item, None]]) -> AsyncGenerator[tuple[int, Item], None]:
    """What several generators give, as it comes, each item with the number of its generator.

    Args:
        sources: they run side by side; the first error of one of them ends all.
    """
    arrived: asyncio.Queue[tuple[int, Item] | _End] = asyncio.Queue(maxsize=1)

    async def pump(number: int, source: AsyncIterator[Item]) -> None:
        error: BaseException | None = None
        try:
            async for item in source:
                await arrived.put((number, item))
        except Exception as raised:  # noqa: BLE001 - raised again by whoever waits for the items
            error = raised
        await arrived.put(_End(error))

    async def closing(number: int, source: AsyncGenerator[Item, None]) -> None:
        async with aclosing(source):
            await pump(number, source)

    tasks = [asyncio.ensure_future(closing(number, source)) for number, source in enumerate(sources)]
    try:
        running = len(tasks)
        while running:
            item = await arrived.get()
            if not isinstance(item, _End):
                yield item
                continue
            running -= 1
            if item.error is not None:
                raise item.error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a generator, or its error."""

    error: BaseException | None


def _told(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages for a log: their texts, and how many pictures they have."""
    return [
        {
            "role": message["role"],
            "text": " ".join(part["text"] for part in message["content"] if part["type"] == "text"),
            "pictures": sum(part["type"] == "image" for part in message["content"]),
        }
        for message in messages
        if isinstance(message["content"], list)
    ]
