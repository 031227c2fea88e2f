"""Keys and values with room behind them are written by one owner alone."""

from __future__ import annotations

import tiny
import torch

from saliency_guard.models.session import Session


def logits_after(session: Session, tokens: list[int]) -> torch.Tensor:
    return torch.cat([session.run([token]).logits for token in tokens])


def test_forks_and_their_origin_write_past_each_other(llava: tiny.Case) -> None:
    origin = Session(llava.model, llava.inputs)
    start = [origin.last_prompt_token, 5, 6]
    logits_after(origin, start)
    forks = [origin.fork(locore=None, layout=origin.layout) for _ in range(2)]
    continued = [origin, *forks, forks[0].fork(locore=None, layout=origin.layout)]
    tails = [[7, 8, 9], [10, 11, 12], [13, 14, 15], [16, 17, 18]]
    found: list[list[torch.Tensor]] = [[] for _ in tails]
    for step in range(3):  # In turns: what one writes must not show in the others.
        for index, (session, tail) in enumerate(zip(continued, tails, strict=True)):
            found[index].append(session.run([tail[step]]).logits)
    for tail, logits in zip(tails, found, strict=True):
        alone = Session(llava.model, llava.inputs)
        logits_after(alone, start)
        assert torch.equal(torch.cat(logits), logits_after(alone, tail))


def test_what_was_taken_back_may_be_written_again(llava: tiny.Case) -> None:
    session = Session(llava.model, llava.inputs)
    logits_after(session, [session.last_prompt_token, 5, 6, 7])
    session.crop(session.prompt_length)
    fork = session.fork(locore=None, layout=session.layout)
    logits_after(session, [20, 21, 22])
    again = logits_after(fork, [5, 6, 7])
    alone = Session(llava.model, llava.inputs)
    assert torch.equal(again, logits_after(alone, [alone.last_prompt_token, 5, 6, 7])[1:])


def test_scoring_what_is_cached_changes_no_key_and_no_value(llava: tiny.Case) -> None:
    session = Session(llava.model, llava.inputs)
    logits_after(session, [session.last_prompt_token, 5, 6, 7])
    before = [(layer.keys.clone(), layer.values.clone()) for layer in session.cache.layers]
    session.rescore(session.prompt_length - 1, 3, layers=(2,))
    for layer, (keys, values) in zip(session.cache.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)


def test_an_answer_may_outgrow_the_room(llava: tiny.Case) -> None:
    tokens = [3 + index % 80 for index in range(300)]
    session = Session(llava.model, llava.inputs)
    logits = session.run([session.last_prompt_token]).logits, logits_after(session, tokens)[-1:]
    whole = Session(llava.model, llava.inputs).run([session.last_prompt_token, *tokens]).logits
    torch.testing.assert_close(torch.cat(logits), whole[[0, -1]], rtol=1e-4, atol=1e-5)
