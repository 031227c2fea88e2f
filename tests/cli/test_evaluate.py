"""`eval pope` and `eval chair` on small files of the standard formats, and the two benches, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

from saliency_guard.evaluation.world import pictures
from saliency_guard.scenes.language import presence
from saliency_guard.scenes.vocabulary import CLASSES


def parsed(output: str) -> dict:
    """The JSON behind the progress bar."""
    return json.loads(output[output.index("{\n") :])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes as POPE and COCO would have them."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "images").mkdir()
    questions, images, annotations = [], [], []
    ids: dict[str, int] = {}
    for number, picture in enumerate(pictures("development", 5), start=1):
        name = f"{number}.png"
        picture.image.save(folder / "images" / name)
        images.append({"id": number, "file_name": name})
        for thing in picture.scene.objects:
            category = ids.setdefault(thing.name, len(ids) + 1)
            annotations.append({"image_id": number, "category_id": category})
        shown = min(picture.scene.counts)
        for name_, label in ((shown, "yes"), ("refrigerator", "no")):
            text = presence(picture.scene, name_).question
            questions.append({"question_id": len(questions), "image": name, "text": text, "label": label})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    (folder / "pope.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (folder / "instances.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


def test_pope_is_measured_and_goes_on(world: Path, tmp_path: Path) -> None:
    arguments = ("eval", "pope", "--questions", str(world / "pope.jsonl"), "--images", str(world / "images"))
    partial = parsed(run(*arguments, "--out", str(tmp_path), "--limit", "4", "--json"))
    assert partial["result"]["questions"] == 4
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4
    whole = parsed(run(*arguments, "--out", str(tmp_path), "--json"))
    assert whole["result"]["questions"] == 10
    assert whole["result"]["accuracy"] >= 0.6
    assert (tmp_path / "answers.jsonl").read_text().splitlines()[:5] == lines
    assert json.loads((tmp_path / "result.json").read_text()) == whole
    assert "accuracy" in run(*arguments, "--out", str(tmp_path))
    refused = run(*arguments, "--out", str(tmp_path), "--sgrs", code=2)
    assert "other settings" in refused


def test_chair_is_measured(world: Path, tmp_path: Path) -> None:
    synonyms = tmp_path / "synonyms.txt"
    arguments = ("eval", "chair", "--annotations", str(world / "instances.json"), "--images", str(world / "images"))
    run(*arguments, "--out", str(tmp_path / "one"))
    result = json.loads((tmp_path / "one" / "result.json").read_text())
    assert result["result"]["captions"] == 5
    assert 0 <= result["result"]["chair_i"] <= 1
    assert result["result"]["recall"] > 0
    # Under other names nothing is found; without a name it is said so.
    synonyms.write_text("\n".join(f"{name}, x{name.replace(' ', '')}x" for name in CLASSES))
    run(*arguments, "--out", str(tmp_path / "two"), "--synonyms", str(synonyms), "--locore", "--beta", "0.3")
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    assert two["result"]["captions"] == 5
    assert two["settings"]["locore"]["beta"] == 0.3
    assert two["settings"]["synonyms_sha256"]
    synonyms.write_text("unicorn, one-horned horse\n")
    refused = run(*arguments, "--out", str(tmp_path / "three"), "--synonyms", str(synonyms), code=2)
    assert "no name is known for" in refused
    assert not (tmp_path / "three").exists()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    out = run("eval", "pope", "--questions", "no.jsonl", "--images", ".", "--out", str(tmp_path), code=2)
    assert "InputError" in out
    assert "Traceback" not in out
