from __future__ import annotations

import random
import re

from saliency_guard.scenes.language import CANNOT_TELL
from saliency_guard.training import frames


def test_an_answer_names_the_source_it_comes_from() -> None:
    cited = 0
    for seed in range(80):
        made = frames.citations(random.Random(seed))
        body = made.prefix.rsplit("Below are numbered sources.", 1)[1]
        sources = dict(re.findall(r"Source (\d):\n(.*?)(?=\n\nSource|\Z)", body, re.DOTALL))
        for branch in made.branches:
            if branch.answer != CANNOT_TELL:
                sentence, number = re.fullmatch(r"(.*) \[(\d)\]\.", branch.answer, re.DOTALL).groups()  # type: ignore[union-attr]
                assert sentence in sources[number]
                cited += 1
    assert cited > 150


def test_refining_repeats_what_was_right_and_mends_what_was_not() -> None:
    repeated = mended = 0
    for seed in range(80):
        for branch in frames.refining(None, random.Random(seed)).branches:
            before = re.search(r"(?:already|answer): (.*)", branch.prompt)
            assert before
            if before[1] == branch.answer:
                repeated += 1
            else:
                mended += 1
                assert branch.answer in branch.prompt
    assert repeated > 60
    assert mended > 60


def test_summaries_hold_only_what_their_text_says() -> None:
    branches = [branch for seed in range(40) for branch in frames.summarizing(None, random.Random(seed)).branches]
    assert len(branches) == 120
    for branch in branches:
        sentences = branch.answer.removesuffix(".").split(". ")
        assert sentences
        assert all(f"{sentence}." in branch.prompt for sentence in sentences)


def test_what_no_document_says_is_not_told() -> None:
    told = unknown = 0
    for seed in range(150):
        made = frames.plain_documents(None, random.Random(seed))
        for branch in made.branches:
            if branch.answer == CANNOT_TELL:
                unknown += 1
            else:
                assert branch.answer.rstrip(".") in made.prefix
                told += 1
    assert told > 200
    assert unknown > 60
