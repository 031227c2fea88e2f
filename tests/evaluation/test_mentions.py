from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard import InputError
from saliency_guard.evaluation.mentions import Mention, ObjectVocabulary, first_token
from saliency_guard.scenes.vocabulary import CLASSES, counted


def names(vocabulary: ObjectVocabulary, text: str) -> list[str]:
    return [mention.name for mention in vocabulary.find(text)]


def test_the_longest_name_wins_and_words_are_whole() -> None:
    world = ObjectVocabulary.world()
    assert names(world, "A teddy bear, a hot dog, two dogs and a carpet.") == ["teddy bear", "hot dog", "dog"]
    assert names(world, "Three pairs of scissors and two people with skis") == ["scissors", "person", "skis"]
    assert names(world, "The categorical caterpillar") == []


def test_a_pair_is_decided_at_its_noun() -> None:
    text = "two pairs of skis"
    assert ObjectVocabulary.world().find(text) == [Mention("skis", 13, 17)]
    assert first_token([" two", " pairs", " of", " skis"], Mention("skis", 14, 18)) == 3


def test_mentions_say_where_they_stand() -> None:
    text = "There is a DOG and a wine glass."
    assert ObjectVocabulary.world().find(text) == [Mention("dog", 11, 14), Mention("wine glass", 21, 31)]


@given(st.sampled_from(CLASSES), st.integers(1, 4))
def test_every_class_is_found_in_every_number(name: str, count: int) -> None:
    assert names(ObjectVocabulary.world(), f"There are {counted(name, count)}.") == [name]


def test_coco_knows_everyday_names(tmp_path: Path) -> None:
    coco = ObjectVocabulary.coco()
    assert names(coco, "A man and two women on a sofa; bikes, a fridge") == [
        "person",
        "person",
        "couch",
        "bicycle",
        "refrigerator",
    ]
    file = tmp_path / "synonyms.txt"
    file.write_text("dog, hound, pooch\ncat\n\n")
    own = ObjectVocabulary.coco(file)
    assert names(own, "A hound, pooches, hounds, a cat, a man") == ["dog", "dog", "dog", "cat"]
    assert names(coco, "Two men and three women with babies and ladies, wolves") == ["person"] * 4
    assert names(coco, "a baseball player on a football field") == ["person"]


def test_a_vocabulary_needs_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        ObjectVocabulary.coco(tmp_path / "missing.txt")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(InputError, match="at least one"):
        ObjectVocabulary.coco(empty)


@given(st.lists(st.text("ab ", min_size=0, max_size=4), min_size=1, max_size=8), st.data())
def test_the_first_token_is_the_one_that_holds_the_first_character(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    if not text:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    index = first_token(pieces, Mention("x", start, start + 1))
    before = sum(map(len, pieces[:index]))
    assert before <= start < before + len(pieces[index])


def test_a_mention_behind_the_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="before character 9"):
        first_token(["a dog"], Mention("cat", 9, 12))


def test_spellings_and_synonyms_of_one_thing() -> None:
    coco = ObjectVocabulary.coco()
    for text, name in (
        ("a hot-dog", "hot dog"),
        ("a hot  dog", "hot dog"),
        ("a motor bike", "motorcycle"),
        ("two kids", "person"),
        ("surfers", "person"),
        ("a cellphone", "cell phone"),
        ("a racquet", "tennis racket"),
        ("a teddy", "teddy bear"),
    ):
        assert [mention.name for mention in coco.find(text)] == [name], text


def test_a_class_on_two_lines_has_the_synonyms_of_both(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("Sports ball, ball\nsports ball, football\n")
    coco = ObjectVocabulary.coco(path)
    assert [mention.name for mention in coco.find("a ball and a football")] == ["sports ball"] * 2
    coco.require({"sports ball"})
    with pytest.raises(InputError, match="no name is known for cat, dog"):
        coco.require({"sports ball", "dog", "cat"})
