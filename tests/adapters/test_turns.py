"""Turns of a chat: which of them are about a picture."""

from __future__ import annotations

import pytest

from saliency_guard.adapters.turns import NO_PICTURE, OTHER_SUBJECT, Turn, TurnMessage

EARLIER = ("Describe the image in detail.", "The image shows a brown dog and a red umbrella.")


def turn(question: str, answer: str = "", *, has_picture: bool = False, chat_has_picture: bool = True) -> Turn:
    return Turn(question, answer, EARLIER, has_picture=has_picture, chat_has_picture=chat_has_picture)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("Thank you!", "You are welcome."),
        ("What is 2 + 2?", "4"),
        ("Please translate good morning to German.", "Guten Morgen."),
        ("Thanks, great!", "You\u2019re welcome! Let me know if you have any other questions."),
        ("Hello!", "Hello! How can I help you today?"),
        ("Thank you!", "\U0001f642"),
        ("How many states are in Germany?", "There are 16 states in Germany."),
        ("Write a poem for Anna.", "There is a light that never fades."),
        ("Who wrote Hamlet?", "William Shakespeare."),
    ],
)
def test_what_no_picture_shows_is_not_scored(question: str, answer: str) -> None:
    assert turn(question, answer).other_subject == OTHER_SUBJECT


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Thank you!", "There is a zebra."),
        ("Thanks!", "You are welcome. A zebra, too."),
        ("Okay?", "Zebra."),
        ("Hello!", "Hallo! Da ist ein Zebra."),
        ("Thanks!", "\u6709\u4e00\u5339\u6591\u9a6c\u3002"),
        ("Good morning!", "Good morning! 3."),
        ("What is 2 + 2?", "A zebra."),
        ("What is 2 + 2?", "4. There is a zebra."),
        ("What is the capital of France?", "Paris. There's a zebra."),
        ("Please translate good morning to German.", "There are two zebras."),
        ("Welche Farbe hat der Hund?", "Er ist braun."),
    ],
)
def test_an_answer_that_claims_what_was_not_asked_for_is_scored(question: str, answer: str) -> None:
    assert turn(question, answer).other_subject is None


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What colour is it?", "It is brown."),
        ("How many cups?", "Two."),
        ("Describe the image again.", "A dog."),
        ("Is the dog a Labrador?", "Yes."),
        ("Who is Anna?", "Anna stands on the left."),
        ("Is there a Nike logo?", "Yes."),
        ("And in Paris?", "The umbrella would be blue."),
        ("", "There is a zebra."),
    ],
)
def test_what_may_be_about_an_earlier_picture_is(question: str, answer: str) -> None:
    assert turn(question, answer).other_subject is None


def test_a_picture_of_its_own_or_none_at_all_decides() -> None:
    assert turn("What is the capital of France?", has_picture=True).other_subject is None
    assert turn("What colour is it?", chat_has_picture=False).other_subject == NO_PICTURE


def message(text: str, *, is_user: bool = True, has_picture: bool = False) -> TurnMessage:
    return TurnMessage(text, is_user, has_picture)


def test_the_last_turn_begins_with_the_user_s_last_messages() -> None:
    shown, said = message("Look.", has_picture=True), message("A dog.", is_user=False)
    asked, more = message("What"), message("is it?")
    system, tool = message("Be brief.", is_user=False), message("", is_user=False, has_picture=True)
    last = Turn.last_of([system, shown, said, asked, more], "Brown.")
    assert (last.question, last.earlier, last.answer) == ("What is it?", ["Look.", "A dog."], "Brown.")
    assert (last.has_picture, last.chat_has_picture) == (False, True)
    assert Turn.last_of([asked, tool], "Brown.").has_picture
    assert Turn.last_of([asked], "Brown.", saw_picture=True).chat_has_picture
    alone = Turn.last_of([], "Brown.")
    assert (alone.question, alone.earlier, alone.has_picture, alone.chat_has_picture) == ("", [], False, False)
