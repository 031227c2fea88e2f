"""Answers from anywhere with their truth, from a user's own file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from saliency_guard.calibration.records import GroundingRecord
from saliency_guard.chat import detokenize
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.errors import InputError
from saliency_guard.evaluation.files import is_file
from saliency_guard.evaluation.labelling import Labels, Looking, claims_of, look, prepared_about
from saliency_guard.evaluation.questions import documents_name, picture_name
from saliency_guard.lvlm import LVLM
from saliency_guard.settings import Frozen
from saliency_guard.storage import problem, read_file, read_text


class LabelledAnswer(Frozen):
    """One line of a user's own file: an answer from anywhere, and whether it is true.

    Attributes:
        image: path of the picture, from the file's folder; empty for an answer about text documents.
        documents: the text documents that the answer is about, instead of a picture.
        question: what was asked.
        answer: what was answered.
        grounded: whether all of it is true.
        mentions: single claims, by the words that make them, in the order they stand in the answer.
        redrawn: whether the picture was changed on purpose, as of `GroundingRecord`.
    """

    class Claimed(Frozen):
        """A piece of the answer and whether it is true."""

        text: str
        grounded: bool

    image: str = ""
    documents: tuple[str, ...] = ()
    question: str
    answer: str
    grounded: bool
    mentions: tuple[Claimed, ...] = ()
    redrawn: bool = False


def read_labelled(path: Path) -> list[LabelledAnswer]:
    """Read a user's own labelled answers (JSONL, see `LabelledAnswer`); paths of pictures are from its folder.

    Raises:
        InputError: if a line is not of that form, has no answer, or its picture is not there (its number is named).
    """
    answers: list[LabelledAnswer] = []
    for line_number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                answers.append(LabelledAnswer.model_validate_json(line))
                _marked(answers[-1])
                _check_there(answers[-1], path.parent)
            except (ValidationError, InputError) as error:
                msg = f"{path}, line {line_number}: {problem(error)}"
                raise InputError(msg) from error
    if not answers:
        msg = f"{path} holds no labelled answers"
        raise InputError(msg)
    return answers


def _check_there(answer: LabelledAnswer, folder: Path) -> None:
    if not answer.answer.strip():
        msg = "the answer is empty"
        raise InputError(msg)
    if bool(answer.image) == bool(answer.documents) or not all(text.strip() for text in answer.documents):
        msg = "an answer is about one image, or about documents with text in them"
        raise InputError(msg)
    if answer.image and not is_file(folder / answer.image):
        msg = f"there is no picture {answer.image}"
        raise InputError(msg)


def _marked(answer: LabelledAnswer) -> list[tuple[int, int, bool]]:
    """First character, the one after the last, and truth of each mention."""
    marked: list[tuple[int, int, bool]] = []
    at = 0
    for mention in answer.mentions:
        # As a word of its own where there is one: "cat" is not meant in "scattered".
        words = re.compile(rf"(?<!\w){re.escape(mention.text)}(?!\w)").search(answer.answer, at)
        at = words.start() if words else answer.answer.find(mention.text, at)
        if at < 0 or not mention.text.strip():
            msg = f"the mention {mention.text!r} is not in the answer after the ones before it"
            raise InputError(msg)
        marked.append((at, at + len(mention.text), mention.grounded))
        at += len(mention.text)
    return marked


def truths(claims: Sequence[ExtractedClaim], answer: LabelledAnswer) -> tuple[bool | None, ...]:
    """The truth of each claim of an answer: of the mention that it overlaps; of all of them if the whole is true.

    Of several mentions in a claim, a wrong one makes it wrong.
    """
    marked = _marked(answer)
    labels: list[bool | None] = []
    for claim in claims:
        inside = [grounded for start, stop, grounded in marked if start < claim.stop and claim.start < stop]
        labels.append(all(inside) if inside else True if answer.grounded and answer.mentions else None)
    return tuple(labels)


@dataclass(frozen=True, slots=True)
class AnswerToLabel:
    """An answer that is there, with the name of its record.

    Attributes:
        labelled: the answer.
        picture: name of its picture, or of its documents.
        question: name of the question in its record: another answer to the same one has a number.
        image: the picture, or where it is; None where the answer is about documents.
    """

    labelled: LabelledAnswer
    picture: str
    question: str
    image: Path | bytes | None

    def opened(self) -> AnswerToLabel:
        """The same with the picture's bytes: a worker may not have the file."""
        return replace(self, image=read_file(self.image) if isinstance(self.image, Path) else self.image)


def answers_to_label(answers: Iterable[LabelledAnswer], folder: Path) -> Iterator[AnswerToLabel]:
    """Answers with the names of their records; ``folder`` is what their images are in."""
    seen: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        image = folder / answer.image if answer.image else None
        picture = picture_name(image) if image is not None else documents_name(answer.documents)
        seen[picture, answer.question] += 1
        # Another answer to the same question is no retry of the first.
        number = seen[picture, answer.question]
        question = answer.question if number == 1 else f"{answer.question} ({number})"
        yield AnswerToLabel(answer, picture, question, image)


def label_answer(lvlm: LVLM, answer: AnswerToLabel, *, looking: Looking = Looking()) -> GroundingRecord:
    """The record of an answer that is there."""
    labelled = answer.labelled
    encoded = detokenize.encode(lvlm.tokenizer, labelled.answer)
    images = [answer.image] if answer.image is not None else []
    prepared = prepared_about(lvlm, images, labelled.documents, labelled.question)
    claims = claims_of(lvlm, encoded, prepared, "english")
    claim_truths = truths(claims, labelled)
    labels = Labels(answer.picture, answer.question, 0, claim_truths, labelled.grounded, labelled.redrawn)
    return look(lvlm, prepared, encoded, claims, labels, looking=looking)
