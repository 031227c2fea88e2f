"""Marks in strings: put around and in place of texts, and taken out again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard import InputError
from saliency_guard.chat.marks import Marks

PRIVATE = chr(0x100000)


def test_a_literal_is_written_out_where_its_mark_stands() -> None:
    marks = Marks([])
    text = f"a {marks.literal('</s>')} b {marks.literal('<image>')}{marks.literal('</s>')}"
    read = marks.read(text)
    assert read.text == "a </s> b <image></s>"
    assert [read.text[start:stop] for start, stop in read.literals] == ["</s>", "<image>", "</s>"]
    assert marks.has_literals(text)
    assert not marks.has_literals("a </s> b")


def test_edges_tell_where_a_text_stands_however_often_the_template_writes_it() -> None:
    marks = Marks([])
    cat, dog = marks.edges(1, "cat", with_spaces=False), marks.edges(2, " dog ", with_spaces=False)
    read = marks.read(f"A {cat},{dog}and {cat}.")
    assert read.text == "A cat, dog and cat."
    assert {number: [read.text[slice(*span)] for span in spans] for number, spans in read.ranges.items()} == {
        1: ["cat", "cat"],
        2: ["dog"],
    }
    assert read.cut == frozenset()
    assert marks.without_edges(cat) == "cat"


def test_white_space_is_marked_only_where_that_is_wanted() -> None:
    marks = Marks([])
    read = marks.read(marks.edges(1, " dog ", with_spaces=True))
    assert read.ranges == {1: [(0, 5)]}
    assert marks.edges(2, "  ", with_spaces=False) == "  "


def test_a_text_of_which_the_template_keeps_one_end_is_cut() -> None:
    marks = Marks([])
    cat = marks.edges(1, "cat", with_spaces=False)
    assert marks.read(cat[:-1]).cut == {1}
    assert marks.read(cat[1:]).cut == {1}
    assert marks.read(cat[:-1]).ranges == {}


def test_a_part_has_breaks_at_both_ends() -> None:
    marks = Marks([])
    read = marks.read(marks.part(" A cat\n"))
    assert read.text == " A cat\n"
    assert read.literals == ((1, 1), (6, 6))
    assert marks.part("  ") == "  "


def test_marks_are_counted() -> None:
    marks = Marks([])
    cat = marks.edges(1, "cat", with_spaces=False)
    literal = marks.literal("</s>")
    assert marks.count(cat + literal + literal) == {cat[0]: 1, cat[-1]: 1, literal: 2}


def test_a_private_character_of_the_conversation_is_no_mark() -> None:
    marks = Marks([f"a{PRIVATE}b"])
    literal = marks.literal("</s>")
    assert literal != PRIVATE
    assert marks.read(f"a{PRIVATE}b{literal}").text == f"a{PRIVATE}b</s>"
    assert not marks.has_literals(PRIVATE)


def test_a_conversation_that_uses_every_private_character_is_refused() -> None:
    with pytest.raises(InputError, match="private characters"):
        Marks(["".join(map(chr, range(0x100000, 0x10FFFE)))]).literal("x")


@given(st.lists(st.tuples(st.text(max_size=5), st.booleans()), max_size=8))
def test_what_is_marked_reads_as_it_was(pieces: list[tuple[str, bool]]) -> None:
    marks = Marks([text for text, _ in pieces])
    marked = "".join(
        marks.literal(text) if is_literal else marks.edges(number, text, with_spaces=True)
        for number, (text, is_literal) in enumerate(pieces)
    )
    read = marks.read(marked)
    assert read.text == "".join(text for text, _ in pieces)
    assert not read.cut
    assert [read.text[slice(*span)] for span in read.literals] == [text for text, is_literal in pieces if is_literal]
