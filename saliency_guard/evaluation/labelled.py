"""Answers from anywhere with their truth, from a user's own file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from saliency_guard.calibration.records import GroundingRecord
from saliency_guard.chat import detokenize
from saliency_guard.chat.messages import chat_about
from saliency_guard.claims.extract import ExtractedClaim
from saliency_guard.errors import InputError
from saliency_guard.evaluation.files import is_file
from saliency_guard.evaluation.labelling import Labels, Looking, claims_of, look
from saliency_guard.evaluation.questions import picture_name
from saliency_guard.lvlm import LVLM
from saliency_guard.settings import Frozen
from saliency_guard.storage import problem, read_text


class LabelledAnswer(Frozen):
    """One line of a user's own file: an answer from anywhere, and whether it is true.

    Attributes:
        image: path of the picture, from the file's folder.
        question: what was asked.
        answer: what was answered.
        grounded: whether all of it is true.
        mentions: single claims, by the words that make them, in the order they stand in the answer.
    """

    class Claimed(Frozen):
        """A piece of the answer and whether it is true."""

        text: str
        grounded: bool

    image: str
    question: str
    answer: str
    grounded: bool
    mentions: tuple[Claimed, ...] = ()


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
    if not is_file(folder / answer.image):
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


def labelled_records(
    lvlm: LVLM,
    answers: Iterable[LabelledAnswer],
    folder: Path,
    *,
    looking: Looking = Looking(),
    done: Collection[tuple[str, str, int]] = frozenset(),
    on_answer: Callable[[], None] = lambda: None,
) -> Iterator[GroundingRecord]:
    """Look at answers that are there; arguments as for `write_records`, ``folder`` is what their images are in."""
    seen: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        key = (picture_name(folder / answer.image), answer.question)
        seen[key] += 1
        # Another answer to the same question is no retry of the first.
        question = answer.question if seen[key] == 1 else f"{answer.question} ({seen[key]})"
        if (key[0], question, 0) in done:
            on_answer()
            continue
        encoded = detokenize.encode(lvlm.tokenizer, answer.answer)
        prepared = lvlm.prepare(chat_about([folder / answer.image], answer.question))
        claims = claims_of(lvlm, encoded, prepared, "english")
        labels = Labels(key[0], question, 0, truths(claims, answer), answer.grounded)
        yield look(lvlm, prepared, encoded, claims, labels, looking=looking)
        on_answer()
