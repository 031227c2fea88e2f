"""Files read and written: POPE's questions (JSONL), COCO's instances (JSON), and results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saliency_guard.errors import ImageError, InputError


@dataclass(frozen=True, slots=True)
class PopeQuestion:
    """One line of a POPE file."""

    question_id: str
    image: Path
    text: str
    truth: bool


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One picture of a COCO instances file and the classes annotated in it."""

    image_id: str
    image: Path
    shown: frozenset[str]


def read_pope(questions: Path, images: Path) -> list[PopeQuestion]:
    """Read POPE's JSONL (``question_id``, ``image``, ``text``, ``label`` yes or no).

    Raises:
        InputError: if a line is not of that form (its number is named).
        ImageError: if a picture is not in ``images``.
    """
    found: list[PopeQuestion] = []
    for number, line in enumerate(read_text(questions).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            label = str(row["label"]).strip().lower()
            question = PopeQuestion(str(row["question_id"]), images / row["image"], str(row["text"]), label == "yes")
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{questions}, line {number}: needs question_id, image, text and label: {error!r}"
            raise InputError(msg) from error
        if label not in {"yes", "no"}:
            msg = f"{questions}, line {number}: label is {label!r}, not yes or no"
            raise InputError(msg)
        found.append(question)
    twice = len(found) - len({question.question_id for question in found})
    if not found or twice:
        msg = f"{questions} holds {len(found)} questions, {twice} of them with an id that is there before"
        raise InputError(msg)
    _check_images([question.image for question in found])
    return found


def read_instances(annotations: Path, images: Path) -> list[CocoImage]:
    """Read a COCO instances file: which classes each of its pictures shows (crowds included).

    Raises:
        InputError: if it is not of that form.
        ImageError: if a picture is not in ``images``.
    """
    try:
        whole: dict[str, Any] = json.loads(read_text(annotations))
        names = {row["id"]: str(row["name"]) for row in whole["categories"]}
        shown: dict[Any, set[str]] = {row["id"]: set() for row in whole["images"]}
        for row in whole["annotations"]:
            shown[row["image_id"]].add(names[row["category_id"]])
        found = [
            CocoImage(str(row["id"]), images / row["file_name"], frozenset(shown[row["id"]])) for row in whole["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{annotations} is no COCO instances file (images, annotations, categories): {error!r}"
        raise InputError(msg) from error
    if not found:
        msg = f"{annotations} lists no images"
        raise InputError(msg)
    _check_images([image.image for image in found])
    return found


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read {path}: {error}"
        raise InputError(msg) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(path)


def _check_images(paths: list[Path]) -> None:
    missing = [path for path in dict.fromkeys(paths) if not path.is_file()]
    if missing:
        msg = f"{len(missing)} pictures are not there, the first is {missing[0]}"
        raise ImageError(msg)
