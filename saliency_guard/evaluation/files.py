"""Reads POPE's questions (JSONL) and COCO's instances (JSON), and makes output folders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from saliency_guard.errors import ImageError, InputError, shown
from saliency_guard.storage import parse_json, read_text

Listed = TypeVar("Listed", "PopeQuestion", "CocoImage")


@dataclass(frozen=True, slots=True)
class PopeQuestion:
    """A line of a POPE file."""

    question_id: str
    image: Path
    text: str
    truth: bool


@dataclass(frozen=True, slots=True)
class CocoImage:
    """A picture of a COCO instances file, and the classes annotated in it."""

    image_id: str
    image: Path
    shown: frozenset[str]


def read_pope(questions: Path, images: Path, limit: int | None = None) -> list[PopeQuestion]:
    """Read POPE's JSONL (``question_id``, ``image``, ``text``, ``label`` yes or no).

    Args:
        questions: the file.
        images: folder of the pictures.
        limit: read only the first so many questions; the pictures of the others may be missing.

    Raises:
        InputError: if a line has another form (the message has its number).
        ImageError: if a picture is not in ``images``.
    """
    parsed: list[PopeQuestion] = []
    for number, line in enumerate(read_text(questions).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            parsed.append(_pope_question(parse_json(line), images))
        except InputError as error:
            msg = f"{questions}, line {number}: {error}"
            raise InputError(msg) from error
        except ValueError as error:
            msg = f"{questions}, line {number}: not a JSON object: {error}"
            raise InputError(msg) from error
    if not parsed:
        msg = f"{questions} has no questions"
        raise InputError(msg)
    _check_unique(questions, [question.question_id for question in parsed], "question_id")
    return _with_pictures(parsed[:limit])


def _pope_question(row: Any, images: Path) -> PopeQuestion:
    if not isinstance(row, dict):
        msg = f"not a JSON object: {shown(row)}"
        raise InputError(msg)
    for name in ("question_id", "image", "text", "label"):
        kinds = (str, int) if name == "question_id" else str
        if not isinstance(row.get(name), kinds) or isinstance(row[name], bool) or not str(row[name]).strip():
            msg = f"needs question_id, image, text and label; {name} is {shown(row.get(name))}"
            raise InputError(msg)
    label = row["label"].strip().lower()
    if label not in {"yes", "no"}:
        msg = f"label is {shown(row['label'])}, not yes or no"
        raise InputError(msg)
    return PopeQuestion(str(row["question_id"]), _inside(images, row["image"]), row["text"], label == "yes")


def read_instances(annotations: Path, images: Path, limit: int | None = None) -> list[CocoImage]:
    """Read a COCO instances file: which classes each of its pictures shows (crowds included).

    Args:
        annotations: the file.
        images: folder of the pictures.
        limit: read only the first so many pictures; the others may be missing.

    Raises:
        InputError: if it has another form.
        ImageError: if a picture is not in ``images``.
    """
    text = read_text(annotations)
    try:
        instances: dict[str, Any] = parse_json(text)
        category_names = {row["id"]: str(row["name"]).strip().lower() for row in instances["categories"]}
        file_names = [(row["id"], str(row["file_name"])) for row in instances["images"]]
        pairs = [(row["image_id"], row["category_id"]) for row in instances["annotations"]]
        hash((tuple(file_names), tuple(pairs)))  # Raises TypeError if an id is a list or an object.
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{annotations} is not a COCO instances file (images, annotations, categories): {error!r}"
        raise InputError(msg) from error
    if not file_names:
        msg = f"{annotations} lists no images"
        raise InputError(msg)
    _check_unique(annotations, [str(image_id) for image_id, _ in file_names], "image id")
    classes: dict[Any, set[str]] = {image_id: set() for image_id, _ in file_names}
    for image_id, category in pairs:
        if image_id not in classes or category not in category_names:
            msg = f"{annotations}: an annotation has an unlisted image or category: image {image_id}, {category}"
            raise InputError(msg)
        classes[image_id].add(category_names[category])
    coco_images = [
        CocoImage(str(image_id), _inside(images, name), frozenset(classes[image_id])) for image_id, name in file_names
    ]
    return _with_pictures(coco_images[:limit])


def output_folder(path: Path) -> Path:
    """A folder to write to; it is created if it does not exist.

    Raises:
        InputError: if it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot write to {path}: {error}"
        raise InputError(msg) from error
    return path


def _inside(folder: Path, name: str) -> Path:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        msg = f"picture {name!r} is outside the folder with the pictures"
        raise InputError(msg)
    return folder / path


def _check_unique(path: Path, keys: list[str], kind: str) -> None:
    duplicates = [key for key, count in Counter(keys).items() if count > 1]
    if duplicates:
        msg = f"{path}: duplicate {kind}: {duplicates[0]!r} ({len(duplicates)} in all)"
        raise InputError(msg)


def _with_pictures(items: list[Listed]) -> list[Listed]:
    """The items, after checking that all their pictures exist."""
    missing = [path for path in dict.fromkeys(item.image for item in items) if not is_file(path)]
    if missing:
        msg = f"{len(missing)} pictures are missing, the first is {missing[0]}"
        raise ImageError(msg)
    return items


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False for a name that no file system allows."""
    try:
        return path.is_file()
    except OSError:  # Such as a name that is too long.
        return False
