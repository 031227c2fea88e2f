from __future__ import annotations

import json
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from saliency_guard import (
    LVLM,
    ConfigError,
    ContextLengthError,
    GroundedAnswer,
    ImageError,
    InputError,
    LocoREConfig,
    ModelError,
    SaliencyConfig,
    SGRSConfig,
    score_answer,
)
from saliency_guard.chat.template import Messages, PreparedPrompt, PromptReader
from saliency_guard.embedded import EMBEDDED_PATH

DESCRIBE = "Describe the image in detail."


def ask(picture: Image.Image, question: str = DESCRIBE, *before: Any) -> Messages:
    return [
        *before,
        {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]},
    ]


@pytest.fixture(scope="module")
def answer(lvlm: LVLM, picture: Image.Image) -> GroundedAnswer:
    return lvlm.generate(ask(picture), sgrs=SGRSConfig(alpha=0.9, min_p=0.3), locore=LocoREConfig())


def read(lvlm: LVLM, messages: Messages) -> PreparedPrompt:
    reader = PromptReader(lvlm.model, lvlm.processor, "it", require_image=True, max_image_pixels=10**6)
    return reader.prepare(messages)


def test_an_answer_is_whole(lvlm: LVLM, answer: GroundedAnswer) -> None:
    assert answer.finish_reason == "stop"
    assert "".join(token.text for token in answer.tokens) == answer.text == answer.text.strip()
    ids = [token.token_id for token in answer.tokens]
    assert answer.text == lvlm.processor.tokenizer.decode(ids)
    assert [token.position for token in answer.tokens] == list(range(len(ids)))
    assert answer.usage.completion_tokens == len(ids)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(ids)
    # SGRS may write what no calibration covers: then there is a reason in place of the number.
    assert (answer.grounding is None) == (answer.grounding_reason is not None)
    assert answer.claims
    assert answer.model_id == "saliency-guard/embedded"
    for index, token in enumerate(answer.tokens):
        assert (token.saliency is None) == (index == 0)
        assert token.threshold is not None
        assert token.logprob <= 0
        assert sum(token.shares.values()) == pytest.approx(1)
        assert set(token.shares) == {"image_0", "text", "output"}
    assert json.loads(json.dumps(answer.to_dict())) == answer.to_dict()


def test_what_was_rejected_is_on_the_token(answer: GroundedAnswer) -> None:
    rejected = [(token, candidate) for token in answer.tokens for candidate in token.rejected]
    assert rejected, "the test must meet rejections"
    for token, one in rejected:
        assert one.saliency < (token.threshold or 0)
        assert one.text
        assert one.token_id != token.token_id


def test_scoring_a_generated_answer_gives_its_scores(lvlm: LVLM, picture: Image.Image, answer: GroundedAnswer) -> None:
    again = lvlm.score(ask(picture), answer.text, locore=LocoREConfig())
    assert again.text == answer.text
    assert [token.token_id for token in again.tokens] == [token.token_id for token in answer.tokens]
    saliencies = [token.saliency for token in answer.tokens[1:]]
    assert [token.saliency for token in again.tokens[1:]] == pytest.approx(saliencies, rel=1e-3)


def test_scoring_agrees_with_score_answer(lvlm: LVLM, picture: Image.Image) -> None:
    text = "There is a dog 🐘 in the image."
    scored = lvlm.score(ask(picture), text)
    ids = [token.token_id for token in scored.tokens]
    direct = score_answer(lvlm.model, lvlm.inputs(ask(picture)), ids)
    assert [t.saliency for t in scored.tokens[1:]] == pytest.approx(direct.saliency[1:].tolist(), rel=1e-4)
    assert [t.logprob for t in scored.tokens] == pytest.approx(direct.logprobs.tolist(), abs=1e-4)
    assert "".join(t.text for t in scored.tokens) == text == scored.text


def test_stream_gives_the_tokens_of_generate(lvlm: LVLM, picture: Image.Image) -> None:
    whole = lvlm.generate(ask(picture), temperature=1.0, seed=5, max_new_tokens=30)
    steps = list(lvlm.stream(ask(picture), temperature=1.0, seed=5, max_new_tokens=30))
    assert steps[-1].answer == whole
    for step, token in zip(steps[:-1], whole.tokens, strict=True):
        assert step.token.token_id == token.token_id
        assert step.token.text == token.text
        # A finished answer is scored in longer pieces than the tokens of a stream.
        assert (step.token.saliency or 0.0) == pytest.approx(token.saliency or 0.0, rel=1e-4)
        assert step.token.shares == pytest.approx(token.shares, abs=1e-5)
        assert step.token.grounding is None  # It is for whole answers: the tokens get it with the last step.
    assert all(step.answer is None for step in steps[:-1])


def test_greedy_without_guard_is_what_transformers_generates(lvlm: LVLM, picture: Image.Image) -> None:
    ours = lvlm.generate(ask(picture), saliency=None)
    inputs = lvlm.inputs(ask(picture))
    theirs = lvlm.model.generate(**inputs, max_new_tokens=128, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert ours.text == lvlm.processor.tokenizer.decode(theirs, skip_special_tokens=True)
    assert all(token.saliency is None and token.shares == {} for token in ours.tokens)


def test_the_same_seed_gives_the_same_answer(lvlm: LVLM, picture: Image.Image) -> None:
    runs = [lvlm.generate(ask(picture), temperature=1.5, seed=seed, max_new_tokens=25).text for seed in (3, 3, 4, 5)]
    assert runs[0] == runs[1]
    assert len(set(runs)) > 1
    free = {lvlm.generate(ask(picture), temperature=3.0, max_new_tokens=12).text for _ in range(4)}
    assert len(free) > 1


def test_length_limit_is_told(lvlm: LVLM, picture: Image.Image) -> None:
    answer = lvlm.generate(ask(picture), max_new_tokens=4)
    assert answer.finish_reason == "length"
    assert len(answer.tokens) == 4


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_stop_string_ends_the_answer_before_it(lvlm: LVLM, picture: Image.Image, data: st.DataObject) -> None:
    whole = lvlm.generate(ask(picture), max_new_tokens=25).text
    start = data.draw(st.integers(0, len(whole) - 2))
    stop = whole[start : data.draw(st.integers(start + 1, len(whole)))]
    steps = list(lvlm.stream(ask(picture), max_new_tokens=25, stop=[stop, "never said"]))
    answer = steps[-1].answer
    assert answer is not None
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finish_reason == "stop"
    assert "".join(step.token.text for step in steps[:-1] if step.token) == answer.text


def test_several_images_each_have_a_share(lvlm: LVLM, picture: Image.Image) -> None:
    content = [
        {"type": "image", "image": picture},
        {"type": "image", "image": Image.new("RGB", (50, 90), "blue")},
        {"type": "text", "text": DESCRIBE},
    ]
    answer = lvlm.generate([{"role": "user", "content": content}], max_new_tokens=6)
    assert set(answer.tokens[0].shares) == {"image_0", "image_1", "text", "output"}
    assert answer.usage.prompt_tokens > 2 * 64


def test_turns_system_and_documents_have_shares_of_their_own(lvlm: LVLM, picture: Image.Image) -> None:
    messages = [
        {"role": "system", "content": "Answer in one sentence."},
        {
            "role": "user",
            "content": [
                {"type": "image", "image": picture},
                {"type": "text", "text": "A note about farms.", "source": "document_1"},
                {"type": "text", "text": " Is there a dog in the image?"},
            ],
        },
        {"role": "assistant", "content": "No, there is no dog in the image."},
        {"role": "user", "content": "Where is the cat?"},
    ]
    answer = lvlm.generate(messages, max_new_tokens=8)
    assert set(answer.shares) == {"system", "image_0", "document_1", "text", "output"}
    assert all(share > 0 for share in answer.shares.values())
    prepared = read(lvlm, messages)
    ids = prepared.inputs["input_ids"][0].tolist()
    spans = {
        span.source: lvlm.processor.tokenizer.decode(ids[span.start : span.stop]) for span in prepared.layout.spans
    }
    assert spans["system"].strip() == "Answer in one sentence."
    assert spans["document_1"].strip() == "A note about farms."


def test_your_own_model_and_processor(llava: tiny.Case, picture: Image.Image) -> None:
    processor = AutoProcessor.from_pretrained(EMBEDDED_PATH)
    model = LlavaForConditionalGeneration.from_pretrained(EMBEDDED_PATH)
    mine = LVLM(model, processor)
    assert mine.model is model
    assert mine.processor is processor
    assert mine.generate(ask(picture), max_new_tokens=3).tokens
    assert mine.score(ask(picture), "Yes.", saliency=SaliencyConfig(normalization="matrix")).tokens


def test_a_local_folder_in_another_precision(picture: Image.Image) -> None:
    with pytest.warns(UserWarning, match="dtype: fitted for float32"):
        half = LVLM.load(EMBEDDED_PATH, dtype=torch.bfloat16, device="cpu")
    assert half.model.dtype == torch.bfloat16
    answer = half.generate(ask(picture), max_new_tokens=12)
    assert all(token.saliency is not None and token.saliency >= 0 for token in answer.tokens[1:])


def test_a_model_that_is_not_there(tmp_path: Any) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        LVLM.load(tmp_path)


def test_no_image_and_text_alone(lvlm: LVLM) -> None:
    messages = [{"role": "user", "content": "Who are you?"}]
    with pytest.raises(ImageError, match="require_image=False"):
        lvlm.generate(messages)
    free = LVLM(lvlm.model, lvlm.processor, require_image=False)
    assert set(free.generate(messages, max_new_tokens=4).shares) == {"text", "output"}


def test_too_large_an_image(lvlm: LVLM, picture: Image.Image) -> None:
    strict = LVLM(lvlm.model, lvlm.processor, max_image_pixels=100)
    with pytest.raises(ImageError, match="limit of 100"):
        strict.generate(ask(picture))


def test_a_context_that_is_too_long(lvlm: LVLM, picture: Image.Image) -> None:
    with pytest.raises(ContextLengthError) as caught:
        lvlm.generate(ask(picture, "dog " * 2000))
    assert caught.value.needed > caught.value.limit == lvlm.context_length
    with pytest.raises(ContextLengthError, match="do not fit"):
        lvlm.score(ask(picture), "dog " * 2000)
    nearly = "dog " * (2048 - 64 - 25)
    answer = lvlm.generate(ask(picture, nearly), max_new_tokens=500, saliency=None)
    assert answer.usage.total_tokens <= 2048


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 2.5}, "max_new_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 1.0, "seed": "x"}, "seed"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"stop": 1}, "stop"),
        ({"sgrs": {"alpha": 0.5}}, "SGRSConfig"),
        ({"locore": True}, "LocoREConfig"),
        ({"saliency": SGRSConfig()}, "SaliencyConfig"),
        ({"saliency": SaliencyConfig(layers=[44])}, "layers"),
        ({"locore": LocoREConfig(layers=[44])}, "layers"),
        ({"saliency": SaliencyConfig(normalization="matrix")}, "matrix"),
    ],
)
def test_wrong_settings(lvlm: LVLM, picture: Image.Image, wrong: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        lvlm.generate(ask(picture), **wrong)


def test_text_that_is_no_text(lvlm: LVLM, picture: Image.Image) -> None:
    with pytest.raises(InputError, match="UTF-8"):
        lvlm.score(ask(picture), "half a pair \ud800")
    with pytest.raises(InputError, match="UTF-8"):
        lvlm.generate(ask(picture, "\ud800"))


@pytest.mark.parametrize("text", ["", "  ", None])
def test_nothing_to_score(lvlm: LVLM, picture: Image.Image, text: Any) -> None:
    with pytest.raises(InputError, match="answer to score"):
        lvlm.score(ask(picture), text)


def test_ids_are_scored_as_the_text_they_stand_for(lvlm: LVLM, picture: Image.Image) -> None:
    written = lvlm.generate(ask(picture), max_new_tokens=12)
    ids = [token.token_id for token in written.tokens]
    assert lvlm.score(ask(picture), [*ids, *lvlm.end_tokens]) == lvlm.score(ask(picture), written.text)


@pytest.mark.parametrize("text", ["<image>", "There is </s> a <image> cat.", "</s>", "<s>Yes.<pad>"])
def test_control_tokens_in_an_answer_to_score_are_text(lvlm: LVLM, picture: Image.Image, text: str) -> None:
    scored = lvlm.score(ask(picture), text)
    special = set(lvlm.tokenizer.all_special_ids)
    assert not special.intersection(token.token_id for token in scored.tokens)
    assert scored.text == "".join(token.text for token in scored.tokens) == text
    assert lvlm.tokenizer.decode([token.token_id for token in scored.tokens]) == text
    together = lvlm.score_batch([(ask(picture), text), (ask(picture), "Yes.")])
    assert [token.token_id for token in together[0].tokens] == [token.token_id for token in scored.tokens]
    assert [token.logprob for token in together[0].tokens] == pytest.approx(
        [t.logprob for t in scored.tokens], abs=1e-4
    )
    direct = score_answer(lvlm.model, lvlm.inputs(ask(picture)), [token.token_id for token in scored.tokens])
    assert [token.logprob for token in scored.tokens] == pytest.approx(direct.logprobs.tolist(), abs=1e-4)


def test_a_processor_without_chat_template(lvlm: LVLM, picture: Image.Image) -> None:
    processor = AutoProcessor.from_pretrained(EMBEDDED_PATH)
    processor.chat_template = None
    with pytest.raises(ModelError, match="chat template"):
        LVLM(lvlm.model, processor).generate(ask(picture))


def test_a_named_text_is_found_where_it_stands(lvlm: LVLM, picture: Image.Image) -> None:
    content = [
        {"type": "image", "image": picture},
        {"type": "text", "text": "Is the cat on the mat? "},
        {"type": "text", "text": "cat", "source": "document_1"},
    ]
    prepared = read(lvlm, [{"role": "user", "content": content}])
    (span,) = [span for span in prepared.layout.spans if span.source == "document_1"]
    before = lvlm.processor.tokenizer.decode(prepared.inputs["input_ids"][0, : span.start])
    assert before.rstrip().endswith("on the mat?")


def test_a_tokenizer_instead_of_the_processor_is_refused(lvlm: LVLM, picture: Image.Image) -> None:
    tokenizer = lvlm.processor.tokenizer
    tokenizer.chat_template = lvlm.processor.chat_template
    try:
        with pytest.raises(ModelError, match="processor"):
            LVLM(lvlm.model, tokenizer).generate(ask(picture))
    finally:
        tokenizer.chat_template = None


def test_a_template_that_objects_is_an_error_of_ours(lvlm: LVLM, picture: Image.Image) -> None:
    processor = AutoProcessor.from_pretrained(EMBEDDED_PATH)
    processor.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="roles must alternate"):
        LVLM(lvlm.model, processor).generate(ask(picture))


def test_a_row_without_saliency_has_no_shares(lvlm: LVLM, picture: Image.Image) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(EMBEDDED_PATH)
    with torch.no_grad():
        model.get_decoder().layers[3].self_attn.o_proj.weight.zero_()
    answer = LVLM(model, lvlm.processor).generate(ask(picture), max_new_tokens=3, saliency=SaliencyConfig(layers=[3]))
    assert all(token.shares == {} for token in answer.tokens)
    json.dumps(answer.to_dict(), allow_nan=False)


def test_stop_may_be_none(lvlm: LVLM, picture: Image.Image) -> None:
    assert lvlm.generate(ask(picture), max_new_tokens=2, stop=None).tokens


@pytest.mark.parametrize("wrong", [{"device": "nonsense"}, {"dtype": "nonsense"}, {"no_such_option": 1}])
def test_loading_with_wrong_options(wrong: dict) -> None:
    with pytest.raises((ModelError, ConfigError)):
        LVLM.load(**wrong)
