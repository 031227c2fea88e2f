"""Files read and written: POPE's questions (JSONL), COCO's instances (JSON), and results."""

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


def read_pope(questions: Path, images: Path, limit: int | None = None) -> list[PopeQuestion]:
    """Read POPE's JSONL (``question_id``, ``image``, ``text``, ``label`` yes or no).

    Args:
        questions: the file.
        images: folder of the pictures.
        limit: only so many questions, from the top; other pictures need not be there.

    Raises:
        InputError: if a line is not of that form (its number is named).
        ImageError: if a picture is not in ``images``.
    """
    found: list[PopeQuestion] = []
    for number, line in enumerate(read_text(questions).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(_pope_question(parse_json(line), images))
        except InputError as error:
            msg = f"{questions}, line {number}: {error}"
            raise InputError(msg) from error
        except ValueError as error:
            msg = f"{questions}, line {number}: is no JSON object: {error}"
            raise InputError(msg) from error
    if not found:
        msg = f"{questions} holds no questions"
        raise InputError(msg)
    _check_unique(questions, [question.question_id for question in found], "question_id")
    return _with_pictures(found[:limit])


def _pope_question(row: Any, images: Path) -> PopeQuestion:
    if not isinstance(row, dict):
        msg = f"is no JSON object: {shown(row)}"
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
        limit: only so many pictures, from the top; the others need not be there.

    Raises:
        InputError: if it is not of that form.
        ImageError: if a picture is not in ``images``.
    """
    text = read_text(annotations)
    try:
        whole: dict[str, Any] = parse_json(text)
        names = {row["id"]: str(row["name"]).strip().lower() for row in whole["categories"]}
        listed = [(row["id"], str(row["file_name"])) for row in whole["images"]]
        pairs = [(row["image_id"], row["category_id"]) for row in whole["annotations"]]
        hash((tuple(listed), tuple(pairs)))  # A TypeError, where an id is a list or an object.
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{annotations} is no COCO instances file (images, annotations, categories): {error!r}"
        raise InputError(msg) from error
    if not listed:
        msg = f"{annotations} lists no images"
        raise InputError(msg)
    _check_unique(annotations, [str(one) for one, _ in listed], "image id")
    classes: dict[Any, set[str]] = {one: set() for one, _ in listed}
    for image_id, category in pairs:
        if image_id not in classes or category not in names:
            msg = f"{annotations}: an annotation of image {image_id}, category {category}: one of them is not listed"
            raise InputError(msg)
        classes[image_id].add(names[category])
    found = [CocoImage(str(one), _inside(images, name), frozenset(classes[one])) for one, name in listed]
    return _with_pictures(found[:limit])


def output_folder(path: Path) -> Path:
    """A folder to write to, made where it does not exist.

    Raises:
        InputError: if it cannot be made.
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
        msg = f"picture {name!r} is outside the folder of the pictures"
        raise InputError(msg)
    return folder / path


def _check_unique(path: Path, keys: list[str], kind: str) -> None:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        msg = f"{path}: {kind} {twice[0]!r} is there more than once ({len(twice)} are)"
        raise InputError(msg)


def _with_pictures(found: list[Listed]) -> list[Listed]:
    """The same, if all their pictures are there."""
    missing = [path for path in dict.fromkeys(one.image for one in found) if not is_file(path)]
    if missing:
        msg = f"pictures that are not there: {len(missing)}, the first is {missing[0]}"
        raise ImageError(msg)
    return found


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False for a name that no file system takes."""
    try:
        return path.is_file()
    except OSError:  # A name no file system takes.
        return False
