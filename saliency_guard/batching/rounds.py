"""The work on calls side by side: prompts are read, a round is written, finished answers are ended.

Whatever several calls do in one go, each fails alone: where the whole goes wrong, each goes on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from saliency_guard.answer import GroundedAnswer
from saliency_guard.batching.calls import AnswerCall, WritingCall
from saliency_guard.batching.scheduler import Call
from saliency_guard.decoding.batch_decoder import decode_round, fits_with

AnyCall = TypeVar("AnyCall", bound=AnswerCall)


def advance(calls: Sequence[Call]) -> list[int]:
    """The next piece of work of several calls (see `scheduler.Advance`).

    A prompt that is read alone is a piece by itself, so that whoever waits only for that goes on at once.
    """
    answers = cast("Sequence[AnswerCall]", calls)
    end([call for call in answers if call.written])
    unread = [call for call in answers if not call.is_read]
    prepare(unread)
    read(unread)
    if len(answers) == 1 and unread:
        return []
    end([call for call in unread if call.written])
    return write([call for call in answers if isinstance(call, WritingCall)])


def prepare(calls: Sequence[AnswerCall]) -> None:
    """Prepare the prompts of calls that are not prepared yet."""
    for call in _going(calls):
        try:
            call.prepare()
        except Exception as error:  # noqa: BLE001 - raised where the call is waited for
            call.fail(error)


def read(calls: Sequence[AnswerCall]) -> None:
    """Read the prompts of calls; what is the same in two of them is read once."""
    for group in _groups(_going(calls), lambda call: call.reading):
        builder, prompts = group[0].builder, [call.prompt for call in group if call.prompt is not None]
        locore, with_image_states = group[0].reading
        try:
            sessions = builder.prompts.sessions(
                builder.reader.model, prompts, locore=locore, with_image_states=with_image_states
            )
        except Exception as error:  # noqa: BLE001 - raised where the call is waited for
            _apart(group, read, error)
            continue
        for call, session in zip(group, sessions, strict=True):
            try:
                call.begin(session)
            except Exception as error:  # noqa: BLE001 - raised where the call is waited for
                call.fail(error)


def write(calls: Sequence[WritingCall]) -> list[int]:
    """A round of calls, those that fit together side by side; says how many there were in each round."""
    rounds: list[int] = []
    writing = [call for call in _going(calls) if call.is_read and not call.written]
    for group in _groups(writing, lambda call: fits_with(call.row.decoder)):
        for call, outcome in zip(group, decode_round([call.row for call in group]), strict=True):
            try:
                call.push(outcome)
            except Exception as error:  # noqa: BLE001 - raised where the call is waited for
                call.fail(error)
        rounds.append(len(group))
    return rounds


def end(calls: Sequence[AnswerCall]) -> None:
    """End the answers of calls, whose tokens are known: scored, judged and verified."""
    for group in _groups([call for call in _going(calls) if not call.done], lambda call: call.ending):
        try:
            answers = group[0].builder.ended([call.finished() for call in group], group[0].wanted)
        except Exception as error:  # noqa: BLE001 - raised where the call is waited for
            _apart(group, end, error)
            continue
        for call, answer in zip(group, answers, strict=True):
            call.end(answer)


def answer_together(calls: Sequence[AnswerCall]) -> list[GroundedAnswer]:
    """The answers of calls that nobody else's join, all ended in one go; the first error is raised."""
    read([call for call in calls if not call.is_read])
    while True:
        for call in calls:
            if call.error is not None:
                raise call.error
            call.check()
        if all(call.written for call in calls):
            break
        write([call for call in calls if isinstance(call, WritingCall)])
    end(calls)
    for call in calls:
        if call.error is not None:
            raise call.error
    return [call.answer for call in calls if call.answer is not None]


def _going(calls: Sequence[AnyCall]) -> list[AnyCall]:
    return [call for call in calls if call.error is None]


def _apart(group: Sequence[AnyCall], work: Callable[[Sequence[AnyCall]], object], error: Exception) -> None:
    """What went wrong for several calls is done once more for each of them by itself."""
    if len(group) == 1:
        group[0].fail(error)
        return
    for call in group:
        work([call])


def _groups(calls: Sequence[AnyCall], key: Callable[[AnyCall], object]) -> list[list[AnyCall]]:
    """Calls with equal keys, in order."""
    groups: list[tuple[object, list[AnyCall]]] = []
    for call in calls:
        for known, group in groups:
            if known == key(call):
                group.append(call)
                break
        else:
            groups.append((key(call), [call]))
    return [group for _, group in groups]
