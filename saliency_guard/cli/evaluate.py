"""``saliency-guard eval``: POPE and CHAIR on the standard files, for any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from saliency_guard.cli.engines import Address, EngineName, GPUs, Workers, engine_named
from saliency_guard.cli.options import (
    DESCRIBE,
    Alpha,
    Beta,
    Json,
    Limit,
    Locore,
    MinP,
    Model,
    Sgrs,
    locore_settings,
    sgrs_settings,
)
from saliency_guard.cli.shared import json_text, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.storage import digest_of

if TYPE_CHECKING:
    from saliency_guard.engines.engine import Engine
    from saliency_guard.evaluation.mitigation import Guard

app = typer.Typer(help="POPE and CHAIR on the standard files.", no_args_is_help=True)

_Images = Annotated[Path, typer.Option(help="Folder with the pictures.")]
_Out = Annotated[
    Path,
    typer.Option(help="Folder for answers.jsonl and result.json; an interrupted run is continued."),
]
_MaxNewTokens = Annotated[int, typer.Option(min=1, help="Largest number of tokens in an answer.")]


@app.command("pope")
def eval_pope(
    *,
    questions: Annotated[Path, typer.Option(help="POPE's JSONL: question_id, image, text, label.")],
    images: _Images,
    out: _Out = Path("runs/pope"),
    model: Model = EMBEDDED,
    sgrs: Sgrs = False,
    alpha: Alpha = None,
    min_p: MinP = None,
    locore: Locore = False,
    beta: Beta = None,
    max_new_tokens: _MaxNewTokens = 16,
    limit: Limit = None,
    json_out: Json = False,
    engine: EngineName = "local",
    workers: Workers = None,
    num_gpus: GPUs = 0.0,
    ray_address: Address = None,
) -> None:
    """Yes/no questions: accuracy, precision, recall, F1 and the share of yes answers."""
    from saliency_guard.evaluation.files import read_pope
    from saliency_guard.evaluation.pope import pope, says_yes

    with reported():
        pope_questions = read_pope(questions, images, limit)
        runner = _Runner(
            "POPE",
            model,
            max_new_tokens,
            _guard(sgrs=sgrs, alpha=alpha, min_p=min_p, locore=locore, beta=beta),
            engine_named(engine, model, workers=workers, num_gpus=num_gpus, address=ray_address),
        )
        settings, texts = runner.answers(
            [(question.question_id, question.image, question.text) for question in pope_questions],
            _files(questions, images),
            out,
        )
        result = pope((question.truth, says_yes(text)) for question, text in zip(pope_questions, texts, strict=True))
        _finish(result, {**settings, "limit": limit}, out, json_out=json_out)


@app.command("chair")
def eval_chair(
    *,
    annotations: Annotated[Path, typer.Option(help="COCO's instances JSON.")],
    images: _Images,
    synonyms: Annotated[
        Path | None, typer.Option(help="CHAIR's file of synonyms: a class and its synonyms per line, comma-separated.")
    ] = None,
    out: _Out = Path("runs/chair"),
    model: Model = EMBEDDED,
    prompt: Annotated[str, typer.Option(help="The question for every picture.")] = DESCRIBE,
    sgrs: Sgrs = False,
    alpha: Alpha = None,
    min_p: MinP = None,
    locore: Locore = False,
    beta: Beta = None,
    max_new_tokens: _MaxNewTokens = 128,
    limit: Limit = None,
    json_out: Json = False,
    engine: EngineName = "local",
    workers: Workers = None,
    num_gpus: GPUs = 0.0,
    ray_address: Address = None,
) -> None:
    """Captions: CHAIR_S, CHAIR_I, object recall and length (compare only at the same --max-new-tokens).

    The ground truth are the annotations; the published CHAIR also counts the objects in human captions.
    """
    from saliency_guard.evaluation.chair import chair, score_caption
    from saliency_guard.evaluation.files import read_instances
    from saliency_guard.evaluation.mentions import ObjectVocabulary

    with reported():
        pictures = read_instances(annotations, images, limit)
        vocabulary = ObjectVocabulary.coco(synonyms)
        vocabulary.require(frozenset().union(*(picture.shown for picture in pictures)))
        runner = _Runner(
            "CHAIR",
            model,
            max_new_tokens,
            _guard(sgrs=sgrs, alpha=alpha, min_p=min_p, locore=locore, beta=beta),
            engine_named(engine, model, workers=workers, num_gpus=num_gpus, address=ray_address),
        )
        settings, texts = runner.answers(
            [(picture.image_id, picture.image, prompt) for picture in pictures],
            {**_files(annotations, images), "prompt": prompt},
            out,
        )
        scores = [score_caption(text, picture.shown, vocabulary) for text, picture in zip(texts, pictures, strict=True)]
        settings |= {"limit": limit, "synonyms_sha256": digest_of(synonyms) if synonyms is not None else None}
        _finish({**chair(scores), "captions": len(scores)}, settings, out, json_out=json_out)


def _files(truth: Path, images: Path) -> dict[str, str]:
    return {"file": truth.name, "file_sha256": digest_of(truth), "images": str(images.resolve())}


def _guard(*, sgrs: bool, alpha: float | None, min_p: float | None, locore: bool, beta: float | None) -> Guard:
    from saliency_guard.evaluation.mitigation import Guard

    return Guard(sgrs=sgrs_settings(on=sgrs, alpha=alpha, min_p=min_p), locore=locore_settings(on=locore, beta=beta))


@dataclass(frozen=True, slots=True)
class _Runner:
    label: str
    model: str
    max_new_tokens: int
    guard: Guard
    engine: Engine

    def answers(
        self, questions: Sequence[tuple[str, Path, str]], files: Mapping[str, Any], out: Path
    ) -> tuple[dict[str, Any], list[str]]:
        """Answer the questions that the journal in ``out`` has no answer for yet.

        Args:
            questions: key, picture and question of each.
            files: the settings that identify the input.
            out: the run's folder.

        Returns:
            The run's settings, and all answers in order.
        """
        from saliency_guard.engines.weights import model_settings
        from saliency_guard.evaluation.answering import AnswerQuestions, PictureQuestion, answer_questions
        from saliency_guard.evaluation.files import output_folder
        from saliency_guard.evaluation.journal import Journal

        output_folder(out)
        sgrs, locore = self.guard.sgrs, self.guard.locore
        with self.engine as engine, progress(self.label, len(questions)) as done:
            settings = {
                **files,
                **engine.ask_worker(partial(model_settings, model=self.model)),
                "max_new_tokens": self.max_new_tokens,
                "sgrs": sgrs.model_dump(mode="json") if sgrs is not None else None,
                "locore": locore.model_dump(mode="json") if locore is not None else None,
            }
            texts = answer_questions(
                engine,
                AnswerQuestions(self.max_new_tokens, sgrs, locore),
                [PictureQuestion(*question) for question in questions],
                Journal(out / "answers.jsonl", settings),
                on_answer=done,
            )
        return settings, texts


def _finish(result: Mapping[str, float], settings: Mapping[str, Any], out: Path, *, json_out: bool) -> None:
    from saliency_guard.storage import replace_file

    text = json_text({"settings": settings, "result": result})
    replace_file(out / "result.json", f"{text}\n".encode())
    if json_out:
        print(text)
        return
    table = Table(title=f"{settings['model']} ({out / 'result.json'})", title_justify="left")
    for name in result:
        table.add_column(name, justify="right")
    table.add_row(*(str(value) if isinstance(value, int) else f"{value:.3f}" for value in result.values()))
    Console().print(table)
