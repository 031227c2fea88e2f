"""The pointing game: whether a map of the picture is largest, and how much of it lies, in the object of a token.

The game is that of arXiv 1608.00507, played by the patches of the picture: a patch lies in an object if its centre lies
in the box around what is visible of it. Of several objects of the class any will do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import compress, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from saliency_guard.calibration.features import Floats
from saliency_guard.calibration.reliability import Bools
from saliency_guard.calibration.token_filter import token_at
from saliency_guard.chat import detokenize
from saliency_guard.chat.messages import chat_about
from saliency_guard.chat.pictures import Box
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.errors import UnsupportedModelError
from saliency_guard.evaluation.mentions import Mention, ObjectVocabulary, first_token
from saliency_guard.evaluation.pointing_maps import MentionTokens, candidate_maps
from saliency_guard.evaluation.world import PICTURE_SIZE, WorldPicture, batches, pictures, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.models.session import Session
from saliency_guard.saliency.boxes import box_of
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.scenes.language import DESCRIBE, caption
from saliency_guard.scenes.scene import Scene, render
from saliency_guard.signals.combined_map import box_part
from saliency_guard.signals.picture_maps import picture_maps
from saliency_guard.signals.trace import trace_answers
from saliency_guard.storage import open_file

SEVERAL = (2, 3, 4)
"""How many pictures prompts have that have several."""
_BATCH = 48


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A question about pictures whose scenes are known.

    Attributes:
        pictures: in order.
        about: index of the one that the question is about.
        question: its text.
    """

    pictures: tuple[WorldPicture, ...]
    about: int = 0
    question: str = DESCRIBE

    @property
    def scene(self) -> Scene:
        """What the picture shows that the question is about."""
        return self.pictures[self.about].scene


def single_questions(split: str, count: int) -> Iterator[Shown]:
    """Single pictures of a split to describe; arguments and errors as of `pictures`."""
    for picture in pictures(split, count):
        yield Shown((picture,))


def several_questions(split: str, groups: int, *, skipped: int) -> Iterator[Shown]:
    """Prompts with two, three and four pictures, each about one of them.

    Args:
        split: of the pictures.
        groups: prompts of each size.
        skipped: pictures of the split that are left out: the first, which are shown one by one.
    """
    unseen = islice(pictures(split, skipped + groups * sum(SEVERAL)), skipped, None)
    for size in SEVERAL:
        for group in batches(islice(unseen, groups * size), size):
            about = random.Random(f"pointing {group[0].scene.seed}").randrange(size)
            yield Shown(tuple(group), about, f"What does picture {about + 1} show?")


@dataclass(frozen=True, slots=True, eq=False)
class PointedTable:
    """True object mentions, one row each, and where M maps of each point.

    Attributes:
        maps: ``[M]`` names of the maps.
        scene: ``[n]`` seed of the scene that was asked about.
        given: ``[n]`` whether the mention stands in a true statement that the model was given, not in its own answer.
        right: ``[n, M]`` the part of the map's largest patches (one, but for ties) in the picture that was asked about.
        peak: ``[n, M]`` the part of them in an object of the class there; NaN where there is no such map.
        mass: ``[n, M]`` the part of the map's sum there.
        box: ``[n, 2]`` whether the centre of the box that a claim gets lies in an object of the class, and its overlap
            (intersection over union) with the object's box that it overlaps most; NaN without a box.
    """

    maps: npt.NDArray[np.str_]
    scene: npt.NDArray[np.int64]
    given: Bools
    right: Floats
    peak: Floats
    mass: Floats
    box: Floats

    def __len__(self) -> int:
        return len(self.scene)

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> PointedTable:
        """Read what `save` wrote."""
        with open_file(path) as file, np.load(file, allow_pickle=False) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


def collect(
    lvlm: LVLM, questions: Iterable[Shown], *, max_new_tokens: int, on_question: Callable[[], None] = lambda: None
) -> PointedTable:
    """Ask, and see where the maps of every true object mention point.

    A scene of which the model's answer names nothing is described to it in a true caption instead.

    Args:
        lvlm: the model.
        questions: those of one batch may have different numbers of pictures; they are answered apart.
        max_new_tokens: of each answer.
        on_question: called after each.

    Raises:
        UnsupportedModelError: if it is not known where in the picture the model's positions lie.
    """
    rows: list[_Row] = []
    for batch in _alike(questions):
        answers = write_answers(
            lvlm,
            [[picture.image for picture in shown.pictures] for shown in batch],
            [shown.question for shown in batch],
            max_new_tokens=max_new_tokens,
        )
        for shown, ids in zip(batch, answers, strict=True):
            rows += _rows(lvlm, shown, ids)
            on_question()
    names = list(rows[0].maps) if rows else []
    values = np.array([[row.maps[name] for name in names] for row in rows]).reshape(len(rows), len(names), 3)
    return PointedTable(
        maps=np.array(names, dtype=np.str_),
        scene=np.array([row.scene for row in rows], dtype=np.int64),
        given=np.array([row.given for row in rows], dtype=np.bool_),
        right=values[..., 0],
        peak=values[..., 1],
        mass=values[..., 2],
        box=np.array([row.box for row in rows]).reshape(len(rows), 2),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    scene: int
    given: bool
    maps: dict[str, tuple[float, float, float]]
    box: tuple[float, float]


def _alike(questions: Iterable[Shown]) -> Iterator[list[Shown]]:
    """Batches of questions about equally many pictures, one after the other."""
    batch: list[Shown] = []
    for shown in questions:
        if batch and (len(batch) == _BATCH or len(batch[0].pictures) != len(shown.pictures)):
            yield batch
            batch = []
        batch.append(shown)
    if batch:
        yield batch


_VOCABULARY = ObjectVocabulary.world()


def _true_mentions(pieces: Sequence[str], scene: Scene) -> list[Mention]:
    return [mention for mention in _VOCABULARY.find("".join(pieces)) if mention.name in scene.counts]


def _rows(lvlm: LVLM, shown: Shown, ids: Sequence[int]) -> list[_Row]:
    pieces = detokenize.pieces(lvlm.tokenizer, ids, skip_special_tokens=True)
    mentions = _true_mentions(pieces, shown.scene)
    given = not mentions
    if given:
        truth = detokenize.encode(lvlm.tokenizer, caption(shown.scene, random.Random(shown.scene.seed)))
        ids, pieces = truth.ids, truth.pieces
        mentions = _true_mentions(pieces, shown.scene)
    prepared = lvlm.prepare(chat_about([picture.image for picture in shown.pictures], shown.question))
    session = Session(lvlm.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
    (trace,) = trace_answers([session], [ids], SaliencyConfig())
    maps = picture_maps(session, trace)
    patches = _patches(lvlm, prepared, maps.owners)
    owners = np.array([int(owner.removeprefix("image_")) for owner in maps.owners])
    right = owners == shown.about
    known = np.array([patch is not None for patch in patches])
    rows = []
    for mention in mentions:
        objects = boxes_of(shown.scene, mention.name)
        inside = np.array([patch is not None and _in_any(patch, objects) for patch in patches]) & right
        tokens = _tokens(pieces, mention)
        pointed = {
            name: (
                points(values[known], right[known])[0],
                *points(values[known], inside[known]),
            )
            for name, values in candidate_maps(maps, trace, tokens, patches).items()
        }
        looks, shown_there = maps.combined[tokens.word][torch.from_numpy(right)], list(compress(patches, right))
        box = box_of(looks, shown_there, part=box_part(trace))
        rows.append(_Row(shown.scene.seed, given, pointed, box_hit(box, objects)))
    return rows


def _tokens(pieces: Sequence[str], mention: Mention) -> MentionTokens:
    words = "".join(pieces)[mention.start : mention.stop]
    return MentionTokens(
        word=token_at(pieces, mention.start + words.rfind(" ") + 1),
        first=first_token(pieces, mention),
        last=token_at(pieces, mention.stop - 1),
    )


def _patches(lvlm: LVLM, prepared: PreparedPrompt, owners: Sequence[str]) -> list[Box | None]:
    """The part of its picture that each position shows."""
    assert prepared.conversation is not None  # noqa: S101 - of messages
    patches: list[Box | None] = []
    for number, image in enumerate(prepared.conversation.images):
        boxes = lvlm.reader.patch_boxes(image, owners.count(f"image_{number}"))
        if boxes is None:
            msg = f"it is not known how the positions of {lvlm.model_id} lie in the picture: nothing points at a place"
            raise UnsupportedModelError(msg)
        patches += boxes
    return patches


def boxes_of(scene: Scene, name: str) -> list[Box]:
    """The boxes around what is visible of a class's objects, from 0 to 1."""
    drawn = render(scene, PICTURE_SIZE)
    boxes = []
    for index, thing in enumerate(scene.objects):
        if thing.name == name:
            left, top, right, bottom = (edge / PICTURE_SIZE for edge in drawn.box(index))
            boxes.append((left, top, right, bottom))
    return boxes


def _in_any(patch: Box, boxes: Sequence[Box]) -> bool:
    x, y = (patch[0] + patch[2]) / 2, (patch[1] + patch[3]) / 2
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)


def points(values: Floats, inside: Bools) -> tuple[float, float]:
    """Whether a map's largest value, and how much of its sum, lies inside; NaN where it is not known.

    Args:
        values: ``[I]`` the map; what is below 0 counts as 0.
        inside: ``[I]`` which patches count.

    Returns:
        Of several largest values the part inside, and the part of the sum. A map of zeros is as good as chance.
    """
    if not np.isfinite(values).all():
        return float("nan"), float("nan")
    known = np.clip(values, 0.0, None)
    if not known.any():
        known = np.ones_like(known)
    return float(inside[known == known.max()].mean()), float(known[inside].sum() / known.sum())


def box_hit(box: Box | None, objects: Sequence[Box]) -> tuple[float, float]:
    """Whether a box's centre lies in an object, and the largest overlap with one; NaN without a box or an object."""
    if box is None or not objects:
        return float("nan"), float("nan")
    return float(_in_any(box, objects)), max(_overlap(box, thing) for thing in objects)


def _overlap(box: Box, other: Box) -> float:
    across = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    down = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    both = across * down
    return both / (sum((each[2] - each[0]) * (each[3] - each[1]) for each in (box, other)) - both)
