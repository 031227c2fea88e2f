"""A tokenizer that takes marks out, writes as text what they say is text, and keeps positions."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_processors

from saliency_guard import MessageError
from saliency_guard.chat.control_tokens import control_tokens
from saliency_guard.chat.marked_tokenizer import MarkedReader
from saliency_guard.chat.marks import Marks


def reader(tokenizer: Any) -> MarkedReader:
    return MarkedReader(control_tokens(tokenizer), Marks([]))


@pytest.fixture(params=list(tiny_processors.TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return tiny_processors.TOKENIZERS[request.param]()


def test_without_marks_it_is_the_tokenizer(tokenizer: Any) -> None:
    marked = reader(tokenizer).tokenizer()
    text = "<s>Is there a cat?</s>"
    assert dict(marked(text)) == dict(tokenizer(text))
    assert type(marked).__name__ == type(tokenizer).__name__
    assert isinstance(marked, type(tokenizer))
    assert marked([text, "A dog."], padding=True, return_tensors="pt")["input_ids"].tolist() == (
        tokenizer([text, "A dog."], padding=True, return_tensors="pt")["input_ids"].tolist()
    )


def test_a_literal_becomes_the_tokens_of_its_letters(tokenizer: Any) -> None:
    marked = reader(tokenizer)
    ids = marked.tokenizer()(f"<s>A{marked.marks.literal('</s>')}b</s>")["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 1
    said = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert "".join(said.split()).casefold().endswith("a</s>b</s>")
    assert sum(marked.taken.values()) == 1


def test_all_columns_keep_step() -> None:
    tokenizer = tiny_processors.byte_level()
    marked = reader(tokenizer)
    text = f"A cat{marked.marks.literal('<image>')} is here"
    columns = marked.tokenizer()(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    assert len({len(column) for column in columns.values()}) == 1
    (row,) = marked.rows
    assert row.text == "A cat<image> is here"
    assert columns["offset_mapping"] == row.offsets
    assert [row.text[start:stop] for start, stop in row.offsets] == [tokenizer.decode([token]) for token in row.ids]
    assert not any(columns["special_tokens_mask"])


def test_where_numbered_texts_stand_is_known_behind_literals_too() -> None:
    tokenizer = tiny_processors.byte_level()
    marked = reader(tokenizer)
    cat = marked.marks.edges(7, "cat", with_spaces=False)
    marked.tokenizer()(f"{marked.marks.literal('</s>')} a {cat}")
    (row,) = marked.rows
    assert [row.text[slice(*span)] for span in row.ranges[7]] == ["cat"]


def test_the_tokenizer_itself_is_left_as_it_was(tokenizer: Any) -> None:
    before = dict(vars(tokenizer))
    marked = reader(tokenizer)
    marked.tokenizer()(f"A{marked.marks.literal('</s>')}")
    assert vars(tokenizer) == before


def test_what_cannot_be_told_apart_is_refused() -> None:
    tokenizer = tiny_processors.whole_words()
    marked = reader(tokenizer)
    with pytest.raises(MessageError, match="cannot tell control tokens"):
        marked.tokenizer()(f"Is {marked.marks.literal('<image>')} there")
