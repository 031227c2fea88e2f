"""Whole files: every record once, whatever interrupts the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from saliency_guard import LVLM, ConfigError, GuardPolicy, InputError
from saliency_guard.dataset.run import Summary, score_dataset
from saliency_guard.dataset.scoring import Scoring
from saliency_guard.engines.engine import LocalEngine

SHARD = 3


def dataset(folder: Path, picture: Image.Image) -> Path:
    picture.save(folder / "scene.png")
    asked = {"image": "scene.png", "question": "Is there a pizza in the image?"}
    answers = ["No, there is no pizza in the image.", "Yes, there is a pizza in the image.", "It is there."]
    records = [{**asked, "id": f"r{number}", "answer": answers[number % 3]} for number in range(8)]
    records[4]["image"] = "none.png"
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + "{broken\n")
    return path


def lines(folder: Path) -> list[dict]:
    paths = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


class Interrupted(LocalEngine):
    """Stops after a shard, as a user does."""

    def map(self, work, batches):
        for number, results in super().map(work, batches):
            if number == 1:
                raise KeyboardInterrupt
            yield number, results


def test_every_record_comes_out_once_and_an_interrupted_run_goes_on(
    lvlm: LVLM, picture: Image.Image, tmp_path: Path
) -> None:
    path = dataset(tmp_path, picture)
    out = tmp_path / "out"
    whole = tmp_path / "whole"
    counted: list[int] = []
    summary = score_dataset(
        path, whole, LocalEngine(lvlm), model="embedded", shard_size=SHARD, on_records=counted.append
    )
    assert summary == Summary(scored=7, unscored=2, set_aside=2)
    assert counted == [3, 3, 3]
    assert [record["id"] for record in lines(whole / "scores")] == ["r0", "r1", "r2", "r3", "r5", "r6", "r7"]
    aside = lines(whole / "errors")
    assert [(record["id"], record["record"]) for record in aside] == [("r4", 5), ("9", 9)]
    assert "none.png" in aside[0]["message"]

    with pytest.raises(KeyboardInterrupt):
        score_dataset(path, out, Interrupted(lvlm), model="embedded", shard_size=SHARD)
    first = (out / "scores" / "part-00000.jsonl").stat().st_mtime_ns
    assert not (out / "scores" / "part-00001.jsonl").exists()
    assert score_dataset(path, out, LocalEngine(lvlm), model="embedded", shard_size=SHARD) == summary
    assert (out / "scores" / "part-00000.jsonl").stat().st_mtime_ns == first
    assert lines(out / "scores") == lines(whole / "scores")
    assert lines(out / "errors") == aside


def test_a_folder_goes_on_only_with_the_same_run(lvlm: LVLM, picture: Image.Image, tmp_path: Path) -> None:
    path = dataset(tmp_path, picture)
    settings = {"model": "embedded", "shard_size": SHARD}
    score_dataset(path, tmp_path / "out", LocalEngine(lvlm), **settings)
    policy = GuardPolicy(min_grounding=0.5)
    for changed, name in (({"scoring": Scoring(policy=policy)}, "policy_sha256"), ({"shard_size": 2}, "shard_size")):
        with pytest.raises(InputError, match=name):
            score_dataset(path, tmp_path / "out", LocalEngine(lvlm), **{**settings, **changed})
    path.write_text(path.read_text() + "\n{}")
    with pytest.raises(InputError, match="file_sha256"):
        score_dataset(path, tmp_path / "out", LocalEngine(lvlm), **settings)


def test_a_policy_without_a_calibration_ends_the_run(picture: Image.Image, tmp_path: Path) -> None:
    bare = LVLM.load().with_calibrator(None)
    scoring = Scoring(policy=GuardPolicy(min_grounding=0.5))
    with pytest.raises(ConfigError, match="calibrator"):
        score_dataset(
            dataset(tmp_path, picture), tmp_path / "out", LocalEngine(bare), model="embedded", scoring=scoring
        )


def test_a_shard_without_records_is_refused(lvlm: LVLM, picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shard_size"):
        score_dataset(dataset(tmp_path, picture), tmp_path / "out", LocalEngine(lvlm), model="embedded", shard_size=0)


def test_the_work_is_what_the_engine_is_given(lvlm: LVLM, picture: Image.Image, tmp_path: Path) -> None:
    sizes: list[int] = []

    class Watched(LocalEngine):
        def map(self, work, batches):
            def watched(model: LVLM, items: Sequence[object]) -> Sequence[object]:
                sizes.append(len(items))
                return work(model, items)

            return super().map(watched, batches)

    score_dataset(dataset(tmp_path, picture), tmp_path / "out", Watched(lvlm), model="embedded", shard_size=SHARD)
    assert sizes == [1, 3, 2, 2]


def test_records_that_quote_what_no_file_can_hold_are_set_aside(
    lvlm: LVLM, picture: Image.Image, tmp_path: Path
) -> None:
    path = dataset(tmp_path, picture)
    path.write_text('{"\\ud800": "no question"}\n{"id": "\\ud800", "question": "What?"}\n')
    summary = score_dataset(path, tmp_path / "out", LocalEngine(lvlm), model="embedded")
    assert summary == Summary(scored=0, unscored=0, set_aside=2)
    assert "it has \\ud800" in lines(tmp_path / "out" / "errors")[0]["message"]
