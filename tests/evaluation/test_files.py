"""The standard files, and a run that is cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from saliency_guard import InputError
from saliency_guard.errors import ImageError
from saliency_guard.evaluation.files import output_folder, read_instances, read_pope


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def pope_file(folder: Path, *rows: object) -> Path:
    path = folder / "pope.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_pope_questions_are_read(tmp_path: Path, images: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a dog in the image?", "label": "yes"}
    path = pope_file(tmp_path, row, "", {**row, "question_id": 2, "label": "No"})
    first, second = read_pope(path, images)
    assert (first.question_id, first.truth, second.truth) == ("1", True, False)
    assert first.image == images / "a.png"


def test_a_bad_pope_file_is_named_with_its_line(tmp_path: Path, images: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a dog?", "label": "yes"}
    for bad, message in (
        ("not json", "line 2"),
        ({"question_id": 2}, "line 2"),
        ({**row, "question_id": 2, "label": "maybe"}, "'maybe', not yes or no"),
        (row, "duplicate question_id: '1'"),
        ([row], "line 2: not a JSON object"),
        ({**row, "question_id": None}, "line 2: needs .* question_id is None"),
        ({**row, "question_id": 2, "text": " "}, "line 2: needs .* text is ' '"),
        ({**row, "question_id": 2, "image": 7}, "line 2: needs .* image is 7"),
        ({**row, "question_id": 2, "image": "/etc/passwd"}, "line 2: .* outside the folder"),
        ({**row, "question_id": 2, "image": "../a.png"}, "line 2: .* outside the folder"),
    ):
        with pytest.raises(InputError, match=message):
            read_pope(pope_file(tmp_path, row, bad), images)
    with pytest.raises(InputError, match="cannot read"):
        read_pope(tmp_path / "nowhere.jsonl", images)
    with pytest.raises(InputError, match="has no questions"):
        read_pope(pope_file(tmp_path, ""), images)
    for name in ("c.png", "c" * 300):
        with pytest.raises(ImageError, match="1 pictures are missing, the first"):
            read_pope(pope_file(tmp_path, {**row, "image": name}), images)


def test_pictures_beyond_the_limit_need_not_be_there(tmp_path: Path, images: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a dog?", "label": "yes"}
    path = pope_file(tmp_path, row, {**row, "question_id": 2, "image": "c.png"})
    assert len(read_pope(path, images, 1)) == 1
    path.write_text(json.dumps({**INSTANCES, "images": [*INSTANCES["images"], {"id": 3, "file_name": "c.png"}]}))
    assert len(read_instances(path, images, 2)) == 2


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, images: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a dog?", "label": "yes"}
    path = tmp_path / "pope.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8-sig")
    assert len(read_pope(path, images)) == 1


INSTANCES = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"image_id": 1, "category_id": 18, "iscrowd": 0},
        {"image_id": 1, "category_id": 18, "iscrowd": 1},
        {"image_id": 1, "category_id": 3},
    ],
}


def test_instances_are_read(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(INSTANCES))
    first, second = read_instances(path, images)
    assert first.shown == {"dog", "car"}
    assert second.shown == frozenset()
    for bad, message in (
        ({}, "not a COCO instances file"),
        ({**INSTANCES, "images": [{"id": 1}]}, "not a COCO instances file"),
        ([], "not a COCO instances file"),
        ({**INSTANCES, "annotations": [{"image_id": 9, "category_id": 3}]}, "unlisted image or category: image 9, 3"),
        ({**INSTANCES, "annotations": [{"image_id": 1, "category_id": 9}]}, "unlisted image or category: image 1, 9"),
        ({**INSTANCES, "images": [*INSTANCES["images"], {"id": 1, "file_name": "b.png"}]}, "duplicate image id: '1'"),
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(InputError, match=message):
            read_instances(path, images)
    path.write_text(json.dumps({**INSTANCES, "images": [], "annotations": []}))
    with pytest.raises(InputError, match="no images"):
        read_instances(path, images)


def test_a_folder_that_cannot_be_written_to_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(InputError, match="cannot write to"):
            output_folder(path)
