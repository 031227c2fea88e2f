"""Counts of bytes and operations, and the peak of memory."""

from __future__ import annotations

import tiny
import torch

from saliency_guard.evaluation import machine


def test_the_floor_counts_what_every_token_has_to_read(llava: tiny.Case) -> None:
    decoder, head = llava.model.get_decoder(), llava.model.get_output_embeddings()
    linear = [module.weight for module in decoder.modules() if isinstance(module, torch.nn.Linear)]
    floor = machine.floor(llava.model, prompt=20)
    assert floor.weight_bytes == 4 * (sum(weight.numel() for weight in linear) + head.weight.numel())
    assert floor.flops == 2 * 20 * sum(weight.numel() for weight in linear)
    assert floor.token_seconds > 0
    assert floor.prompt_seconds > 0


def test_work_is_done_once() -> None:
    calls: list[int] = []
    seconds = machine.timed(lambda: calls.append(1), torch.device("cpu"))
    assert seconds > 0
    assert calls == [1]


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    assert machine.median_ratio([2.0, 9.0, 4.0], [1.0, 1.0, 4.0]) == 2.0


def test_the_peak_holds_what_was_freed_again_until_it_is_reset() -> None:
    megabyte = 2**20
    machine.forget_peak()
    before = machine.peak()
    block = torch.ones(64 * megabyte)  # 256 MB
    del block
    assert machine.peak() > before + 200 * megabyte
    machine.forget_peak()
    assert machine.peak() < before + 100 * megabyte
