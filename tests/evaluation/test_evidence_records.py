"""Labelled answers for the evidence: made once, gone on with, and never those of other weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from saliency_guard import LVLM
from saliency_guard.evaluation import evidence_records as module
from saliency_guard.evaluation.evidence_records import EvidenceRun, evidence_records, evidence_sources
from saliency_guard.evaluation.unlike import synthetic_questions

RUN = EvidenceRun(scenes=1, several=0)


def test_a_stopped_run_goes_on_and_a_finished_one_is_read(
    lvlm: LVLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evidence_records(lvlm, "synthetic pictures", RUN, tmp_path, on_answer=stop)
    (part,) = tmp_path.glob("synthetic-pictures-1-*.jsonl.part")
    assert len(part.read_text().splitlines()) == 2
    records = evidence_records(lvlm, "synthetic pictures", RUN, tmp_path)
    assert [record.question for record in records] == [each.question for each in synthetic_questions(1)]
    assert not part.exists()
    monkeypatch.setattr(module, "write_records", None)  # Nothing is asked again.
    again = evidence_records(lvlm, "synthetic pictures", RUN, tmp_path)
    assert again.records == records.records
    assert again.fingerprint.weights[:8] in next(tmp_path.glob("*.jsonl")).name


def test_several_pictures_are_asked_about_in_the_training_styles_alone() -> None:
    run = EvidenceRun(scenes=4, several=2)
    assert run.world("training styles").several == 2
    assert run.world("openmoji").several == 0
    assert run.answers("openmoji") == run.world("openmoji").answers == 4 * 4 * 4
    assert run.answers("synthetic pictures") == len(list(synthetic_questions(4)))


def test_tux_paint_is_left_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUXPAINT_STAMPS", "/nowhere")
    assert evidence_sources() == ("training styles", "openmoji", "photographs", "synthetic pictures")
