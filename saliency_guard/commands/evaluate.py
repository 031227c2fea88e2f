"""``saliency-guard eval``: POPE and CHAIR on the standard files, for any model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from saliency_guard.commands.shared import Json, Model, as_json, load, progress, reported, weights_of
from saliency_guard.evaluation.chair import chair, score_caption
from saliency_guard.evaluation.files import read_instances, read_pope
from saliency_guard.evaluation.journal import Journal
from saliency_guard.evaluation.mentions import ObjectVocabulary
from saliency_guard.evaluation.pope import pope, says_yes
from saliency_guard.evaluation.world import chat
from saliency_guard.locore import LocoREConfig
from saliency_guard.lvlm import EMBEDDED, LVLM
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.sgrs import SGRSConfig

app = typer.Typer(help="POPE and CHAIR on the standard files.", no_args_is_help=True)

_Images = Annotated[Path, typer.Option(help="Folder of the pictures.")]
_Out = Annotated[
    Path,
    typer.Option(help="Where answers (answers.jsonl) and result (result.json) go; a run that was cut off goes on."),
]
_Sgrs = Annotated[bool, typer.Option("--sgrs", help="Saliency-guided rejection on.")]
_Locore = Annotated[bool, typer.Option("--locore", help="Local reinforcement on.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="Only so many, from the top.")]
_MaxNewTokens = Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")]


@app.command("pope")
def eval_pope(
    *,
    questions: Annotated[Path, typer.Option(help="POPE's JSONL: question_id, image, text, label.")],
    images: _Images,
    out: _Out = Path("runs/pope"),
    model: Model = EMBEDDED,
    sgrs: _Sgrs = False,
    locore: _Locore = False,
    max_new_tokens: _MaxNewTokens = 16,
    limit: _Limit = None,
    json_out: Json = False,
) -> None:
    """Yes/no questions: accuracy, precision, recall, F1 and the part of yes."""
    with reported():
        asked = read_pope(questions, images)[:limit]
        lvlm = load(model)
        settings = {
            **_files(questions, images),
            **_settings(model, lvlm, max_new_tokens, sgrs=sgrs, locore=locore),
        }
        journal = Journal(out / "answers.jsonl", settings)
        with progress("POPE", len(asked)) as done:
            for question in asked:
                if question.question_id not in journal.results:
                    answer = lvlm.generate(
                        chat(question.image, question.text),
                        max_new_tokens=max_new_tokens,
                        sgrs=SGRSConfig() if sgrs else None,
                        locore=LocoREConfig() if locore else None,
                        saliency=None,
                    )
                    journal.add(question.question_id, {"text": answer.text})
                done()
        said = [says_yes(journal.results[question.question_id]["text"]) for question in asked]
        result = pope(zip([question.truth for question in asked], said, strict=True))
        _finish(result, settings, out, json_out=json_out)


@app.command("chair")
def eval_chair(
    *,
    annotations: Annotated[Path, typer.Option(help="COCO's instances JSON.")],
    images: _Images,
    synonyms: Annotated[
        Path | None, typer.Option(help="One class a line with its synonyms, comma-separated, as CHAIR has them.")
    ] = None,
    out: _Out = Path("runs/chair"),
    model: Model = EMBEDDED,
    prompt: Annotated[str, typer.Option(help="What the model is asked.")] = DESCRIBE,
    sgrs: _Sgrs = False,
    locore: _Locore = False,
    max_new_tokens: _MaxNewTokens = 128,
    limit: _Limit = None,
    json_out: Json = False,
) -> None:
    """Captions: CHAIR_S, CHAIR_I, object recall and length (compare only at the same --max-new-tokens).

    True is what is annotated; the published CHAIR also takes what people's captions name.
    """
    with reported():
        pictures = read_instances(annotations, images)[:limit]
        vocabulary = ObjectVocabulary.coco(synonyms)
        lvlm = load(model)
        settings = {
            **_files(annotations, images),
            "prompt": prompt,
            **_settings(model, lvlm, max_new_tokens, sgrs=sgrs, locore=locore),
        }
        journal = Journal(out / "answers.jsonl", settings)
        with progress("CHAIR", len(pictures)) as done:
            for picture in pictures:
                if picture.image_id not in journal.results:
                    answer = lvlm.generate(
                        chat(picture.image, prompt),
                        max_new_tokens=max_new_tokens,
                        sgrs=SGRSConfig() if sgrs else None,
                        locore=LocoREConfig() if locore else None,
                        saliency=None,
                    )
                    journal.add(picture.image_id, {"text": answer.text})
                done()
        captions = [journal.results[picture.image_id]["text"] for picture in pictures]
        scores = [
            score_caption(text, picture.shown, vocabulary) for text, picture in zip(captions, pictures, strict=True)
        ]
        _finish({**chair(scores), "captions": len(scores)}, settings, out, json_out=json_out)


def _files(truth: Path, images: Path) -> dict[str, str]:
    digest = hashlib.sha256(truth.read_bytes()).hexdigest()[:16]
    return {"file": truth.name, "file_sha256": digest, "images": str(images.resolve())}


def _settings(model: str, lvlm: LVLM, max_new_tokens: int, *, sgrs: bool, locore: bool) -> dict[str, Any]:
    return {
        "model": model,
        "weights": weights_of(model, lvlm),
        "dtype": str(lvlm.model.dtype),
        "max_new_tokens": max_new_tokens,
        "sgrs": SGRSConfig().model_dump(mode="json") if sgrs else None,
        "locore": LocoREConfig().model_dump(mode="json") if locore else None,
    }


def _finish(result: Mapping[str, float], settings: Mapping[str, Any], out: Path, *, json_out: bool) -> None:
    text = as_json({"settings": settings, "result": result})
    (out / "result.json").write_text(text + "\n", encoding="utf-8")
    if json_out:
        print(text)
        return
    table = Table(title=f"{settings['model']} ({out / 'result.json'})", title_justify="left")
    for name in result:
        table.add_column(name, justify="right")
    table.add_row(*(str(value) if isinstance(value, int) else f"{value:.3f}" for value in result.values()))
    Console().print(table)
