"""Workers of a real Ray cluster on this machine, some of which die."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from saliency_guard import LVLM, ConfigError, ModelError
from saliency_guard.dataset.run import score_dataset
from saliency_guard.engines.engine import LocalEngine, Lost
from saliency_guard.engines.ray_engine import RayEngine
from saliency_guard.scenes.scene import render, sample_scene

# Ray's processes talk to each other on this machine's own address.
pytestmark = [pytest.mark.allow_hosts(["127.0.0.1", "::1"]), pytest.mark.xdist_group("ray")]

WORKERS = 2
Item = tuple[str, Path]


@pytest.fixture(scope="module", autouse=True)
def by_value(ray_cluster: Any) -> None:
    """Workers cannot import a module of tests."""
    ray_cluster.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def unloaded() -> LVLM | None:
    """No model: what is tested here is the workers."""
    return None


def work_on(lvlm: LVLM | None, items: Sequence[Item]) -> list[str]:
    """Says which process did what; some items kill it, at the first time or always."""
    for name, folder in items:
        with (folder / "log").open("a") as log:
            log.write(f"{name}\n")
        marker = folder / name
        if name.startswith("always") or (name.startswith("once") and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "error":
            msg = "this cannot be done"
            raise ConfigError(msg)
    return [name.upper() for name, _ in items]


def test_batches_that_kill_a_worker_are_done_again_and_items_that_kill_every_worker_are_lost(tmp_path: Path) -> None:
    names = [["a", "b"], ["once", "c"], ["d", "always", "e"], ["f"], []]
    batches = [[(name, tmp_path) for name in batch] for batch in names]
    with RayEngine(unloaded, workers=WORKERS) as engine:
        done = dict(engine.map(work_on, iter(batches)))
        assert sorted(done) == [0, 1, 2, 3, 4]
        lost = done[2].pop(1)
        assert isinstance(lost, Lost)
        assert "2 workers died" in lost.error
        assert done == {0: ["A", "B"], 1: ["ONCE", "C"], 2: ["D", "E"], 3: ["F"], 4: []}
        # An error of the work ends the run, as it is, and the workers are there for the next one.
        with pytest.raises(ConfigError, match="cannot be done"):
            list(engine.map(work_on, [[("error", tmp_path)]]))
        assert list(engine.map(work_on, [[("g", tmp_path)]])) == [(0, ["G"])]
    log = (tmp_path / "log").read_text().split()
    assert {name: log.count(name) for name in ("a", "b", "c", "f")} == {"a": 1, "b": 1, "c": 1, "f": 1}
    assert log.count("always") == 4


def die() -> LVLM:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_model_that_kills_every_worker_ends_the_run(tmp_path: Path) -> None:
    with RayEngine(die, workers=1) as engine, pytest.raises(ModelError, match="died while they loaded the model"):
        list(engine.map(work_on, [[("a", tmp_path)]]))


def cannot_load() -> LVLM:
    msg = "there is no such model"
    raise ModelError(msg)


def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with RayEngine(cannot_load, workers=1) as engine, pytest.raises(ModelError, match="no such model"):
        list(engine.map(work_on, [[("a", tmp_path)]]))


def test_there_must_be_room_for_a_worker() -> None:
    with pytest.raises(ConfigError, match="no room"), RayEngine(unloaded, num_cpus=64):
        pass
    with pytest.raises(ConfigError, match="below"):
        RayEngine(unloaded, workers=0)


def process_of(_: LVLM, items: Sequence[None]) -> list[int]:
    return [os.getpid() for _ in items]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_a_dataset_with_a_worker_killed_in_the_middle(lvlm: LVLM, tmp_path: Path) -> None:
    names = []
    for number in range(4):
        render(sample_scene(2600 + number), 224).image.save(tmp_path / f"{number}.png")
    with (tmp_path / "in.jsonl").open("w") as file:
        for number in range(24):
            record = {"id": f"r{number}", "image": f"{number % 4}.png", "question": "Is there a dog in the image?"}
            answer = "Yes, there is a dog in the image." if number % 2 else "No."
            names.append(record["id"])
            file.write(json.dumps({**record, "answer": answer}) + "\n")
        file.write(json.dumps({"id": "bad", "image": "none.png", "question": "What?"}) + "\n")
    killed: list[int] = []
    settings = {"model": "embedded", "shard_size": 2}
    with RayEngine(LVLM.load, workers=WORKERS) as engine:
        processes: set[int] = set()
        while len(processes) < WORKERS:  # Until all have loaded their model.
            processes |= {process for _, (process,) in engine.map(process_of, [[None]] * WORKERS)}

        def kill_one(_: int) -> None:
            if not killed:
                killed.append(processes.pop())
                os.kill(killed[0], signal.SIGKILL)

        summary = score_dataset(tmp_path / "in.jsonl", tmp_path / "ray", engine, on_records=kill_one, **settings)
    assert len(killed) == 1
    assert summary == score_dataset(tmp_path / "in.jsonl", tmp_path / "local", LocalEngine(lvlm), **settings)
    assert (summary.scored, summary.set_aside) == (24, 1)
    found = lines(tmp_path / "ray" / "scores")
    assert [record["id"] for record in found] == names
    assert [record["id"] for record in lines(tmp_path / "ray" / "errors")] == ["bad"]
    wanted = lines(tmp_path / "local" / "scores")
    for record, expected in zip(found, wanted, strict=True):
        assert record["report"]["score"] == pytest.approx(expected["report"]["score"], abs=1e-5)
        assert record["text"] == expected["text"]
