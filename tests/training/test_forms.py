from __future__ import annotations

import json
import random

from saliency_guard.scenes.scene import sample_scene
from saliency_guard.training import forms
from saliency_guard.training.abilities import unseen_forms


def test_a_form_is_the_json_that_constrained_decoding_writes() -> None:
    for seed in range(60):
        filled = forms.fields(sample_scene(seed), random.Random(seed), 3)
        text, silent = forms.written(filled)
        value = {field.key: field.value for field in filled}
        assert text == json.dumps(value)
        spared = "".join(text[start:stop] for start, stop in silent)
        assert spared == "{" + ", ".join(f'"{field.key}": ' for field in filled) + "}"


def test_values_are_true() -> None:
    lists_of_names = 0
    for seed in range(40):
        scene = sample_scene(seed)
        for field in forms.fields(scene, random.Random(seed), 4):
            kind = field.schema["type"]
            assert isinstance(field.value, {"boolean": bool, "integer": int, "string": str, "array": list}[kind])
            if kind == "array" and field.value and isinstance(field.value[0], str):
                assert set(field.value) == set(scene.counts)
                lists_of_names += 1
    assert lists_of_names > 5
    scene = next(scene for seed in range(99) if (scene := sample_scene(seed)).counts.get("dog", 0) == 2)
    assert forms.amount(scene, "dog", "dogs").value == 2
    assert forms.flag(scene, "zebra", "zebra").value is ("zebra" in scene.counts)


def test_a_schema_reads_as_pydantic_writes_it() -> None:
    filled = [forms.flag(sample_scene(3), "dog", "has_dog"), forms.told(sample_scene(3), "caption")]
    schema = forms.schema_of(filled)
    assert list(schema) == ["properties", "required", "type"]
    assert schema["properties"] == {"has_dog": {"type": "boolean"}, "caption": {"type": "string"}}
    described = forms.schema_of(filled, random.Random(0), described=True)
    assert "description" in described["properties"]["has_dog"]


def test_twenty_unseen_schemas_have_keys_that_no_training_form_has() -> None:
    scene = sample_scene(600_003)
    schemas = unseen_forms(scene, random.Random(0))
    assert len(schemas) == 20
    assert {len(filled) for filled in schemas} == {1, 2, 3, 4}
    keys = {field.key for filled in schemas for field in filled}
    trained = {field.key for seed in range(400) for field in forms.fields(sample_scene(seed), random.Random(seed), 4)}
    assert len(keys) > 20
    assert not keys & trained


def test_keys_of_a_document_hold_what_it_says() -> None:
    count = 0
    for seed in range(40):
        made = forms.document_forms(random.Random(seed))
        for branch in made.branches:
            for each in json.loads(branch.answer).values():
                assert str(each) in made.prefix
                count += 1
    assert count > 80
