"""Detection of hallucinated objects: captions of the picture world, each mention with its signals and its label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saliency_guard.answer import Claim
from saliency_guard.calibration.features import Floats, lens_evidence
from saliency_guard.chat import detokenize as text_module
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.mentions import ObjectVocabulary, first_token
from saliency_guard.evaluation.mitigation import RELEASED_LAYERS
from saliency_guard.evaluation.world import WorldPicture, batches, write_answers
from saliency_guard.lvlm import LVLM
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.scoring import score_answer
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.vocabulary import CLASSES, NEVER_DRAWN
from saliency_guard.signals import SIGNALS, compute
from saliency_guard.signals.trace import trace_answer
from saliency_guard.storage import open_file

MODES = ("greedy", "sampled")
BATCH = 48
WORDS = (*CLASSES, *NEVER_DRAWN)
RELEASED = "saliency, layers of the released code"
SCALARS = (*SIGNALS, RELEASED)
"""Single numbers: every signal, and Eq. 6 under the target layers of the paper's released code."""
JUDGED = ("calibrated grounding", "verification")
"""What a user gets for an object that is claimed."""


@dataclass(frozen=True, slots=True, eq=False)
class MentionTable:
    """Object mentions, one row each; a mention's numbers are those of its first token.

    Attributes:
        picture: ``[n]`` seed of the scene.
        sampled: ``[n]`` whether the caption was sampled (else greedy).
        hallucinated: ``[n]`` whether the scene has no such object.
        priors: ``[n, 3]`` token position, earlier mentions of the class, earlier mentions: "position only".
        judged: ``[n, len(JUDGED)]`` of the claim; NaN where a user gets no number.
        signals: ``[n, len(SCALARS)]`` NaN where a signal is undefined.
        saliency: ``[n, L * H * 3]`` attention x gradient per layer, head and source.
        signed: ``[n, L * H * 3]`` the same with its sign: positive where attention there supports the token.
        attention: ``[n, L * H * 3]`` plain attention.
        evidence: ``[n, (L + 1) * 10]`` evidence for the word at the image positions by the logit lens, per layer.
        state: ``[n, D]`` hidden state of the mention's first token in the middle layer.
        word: ``[n]`` index of the class among `WORDS`.
    """

    picture: npt.NDArray[np.int64]
    sampled: npt.NDArray[np.bool_]
    hallucinated: npt.NDArray[np.bool_]
    priors: Floats
    judged: Floats
    signals: Floats
    saliency: Floats
    signed: Floats
    attention: Floats
    evidence: Floats
    state: Floats
    word: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.picture)

    def where(self, chosen: npt.NDArray[np.bool_]) -> MentionTable:
        """The chosen rows."""
        return MentionTable(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> MentionTable:
        """Read what `save` wrote."""
        with open_file(path) as file, np.load(file, allow_pickle=False) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True, eq=False)
class _Caption:
    picture: WorldPicture
    sampled: bool
    ids: list[int]


def collect(
    lvlm: LVLM,
    pictures: Iterable[WorldPicture],
    *,
    max_new_tokens: int = 96,
    temperature: float = 1.0,
    on_caption: Callable[[], None] = lambda: None,
) -> MentionTable:
    """Caption every picture, greedily and by sampling, and collect the signals of every mention.

    Args:
        lvlm: the model to measure.
        pictures: the pictures to caption.
        max_new_tokens: the same for all captions, because the hallucination rate depends on length.
        temperature: temperature of the sampled captions.
        on_caption: called after each caption (two per picture).
    """
    vocabulary = ObjectVocabulary.world()
    rows: list[tuple[Any, ...]] = []
    for caption in _captions(lvlm, pictures, max_new_tokens, temperature):
        rows += _mentions(lvlm, caption, vocabulary)
        on_caption()
    dtypes: Sequence[Any] = (np.int64, np.bool_, np.bool_, *[np.float64] * 8, np.int64)
    if not rows:  # A model may mention no known object.
        shapes = [(0,)] * 3 + [(0, 3), (0, len(JUDGED)), (0, len(SCALARS))] + [(0, 0)] * 5 + [(0,)]
        return MentionTable(*(np.empty(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)))
    columns = zip(*rows, strict=True)
    return MentionTable(*(np.array(column, dtype=dtype) for column, dtype in zip(columns, dtypes, strict=True)))


def _captions(
    lvlm: LVLM, pictures: Iterable[WorldPicture], max_new_tokens: int, temperature: float
) -> Iterator[_Caption]:
    for batch in batches(pictures, BATCH):
        for sampled in (False, True):
            token_ids = write_answers(
                lvlm,
                [picture.image for picture in batch],
                [DESCRIBE] * len(batch),
                max_new_tokens=max_new_tokens,
                temperature=temperature if sampled else 0.0,
                seed=batch[0].scene.seed,
            )
            pairs = zip(batch, token_ids, strict=True)
            yield from (_Caption(picture, sampled, ids) for picture, ids in pairs if ids)


def _mentions(lvlm: LVLM, caption: _Caption, vocabulary: ObjectVocabulary) -> Iterator[tuple[Any, ...]]:
    pieces = text_module.pieces(lvlm.tokenizer, caption.ids, skip_special_tokens=True)
    mentions = vocabulary.find("".join(pieces))
    if not mentions:
        return
    scene = caption.picture.scene
    inputs = lvlm.inputs(chat(caption.picture.image, DESCRIBE))
    trace = trace_answer(lvlm.model, inputs, caption.ids)
    values = {name: column.cpu().numpy() for name, column in compute(trace, SIGNALS).items()}
    released = score_answer(
        lvlm.model, inputs, caption.ids, saliency=SaliencyConfig(layers=RELEASED_LAYERS), layout=trace.layout
    )
    values[RELEASED] = released.saliency.cpu().numpy()
    claims = _claims(lvlm, caption, pieces)
    saliency, signed, attention = (
        part.flatten(1).cpu().numpy() for part in (trace.saliency, trace.signed, trace.attention)
    )
    evidence = lens_evidence(trace).cpu().numpy()
    middle = trace.output_states[len(trace.output_states) // 2][1:].float().cpu().numpy()
    earlier_names: list[str] = []
    for ordinal, mention in enumerate(mentions):
        token = first_token(pieces, mention)
        claim = claims.get(mention.start, claims.get(mention.stop))
        number = _NOT_JUDGED if claim is None else _numbers(claim)
        yield (
            scene.seed,
            caption.sampled,
            mention.name not in scene.counts,
            (token, earlier_names.count(mention.name), ordinal),
            number,
            [values[name][token] for name in SCALARS],
            saliency[token],
            signed[token],
            attention[token],
            evidence[token],
            middle[token],
            WORDS.index(mention.name),
        )
        earlier_names.append(mention.name)


_NOT_JUDGED = (float("nan"),) * len(JUDGED)


def _claims(lvlm: LVLM, caption: _Caption, pieces: Sequence[str]) -> dict[int, Claim]:
    """What a user gets of each object that is claimed, by the claim's first character and the one after its last."""
    if lvlm.calibrator is None:
        return {}
    answer = lvlm.score(chat(caption.picture.image, DESCRIBE), "".join(pieces))
    return {character: claim for claim in answer.claims if claim.kind == "object" for character in claim.span}


def _numbers(claim: Claim) -> tuple[float, ...]:
    return tuple(float("nan") if number is None else number for number in (claim.grounding, claim.verified))
