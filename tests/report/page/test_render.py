"""One file that needs no network, in which hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import random
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.answer import Claim, TokenGrounding, Usage
from saliency_guard.answer_view import AnswerView, HeatMap, PictureView
from saliency_guard.chat.messages import chat
from saliency_guard.report.page.content import AttemptContent, PageContent
from saliency_guard.report.page.render import MAX_NOTEBOOK_BYTES, notebook_page, page, script_json

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}<!--&amp;\u2028"


def answer(text: str, count: int = 1, **values: Any) -> GroundedAnswer:
    tokens = tuple(
        TokenGrounding(text=text, token_id=index, position=index, logprob=-0.5, saliency=None, **values)
        for index in range(count)
    )
    usage = Usage(prompt_tokens=3, completion_tokens=count, total_tokens=3 + count)
    return GroundedAnswer(text=text * count, tokens=tokens, finish_reason="length", usage=usage, model_id=text)


class Elements(HTMLParser):
    """Every element and attribute of a document, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.raw:
            self.raw[self._inside].append(data)


def shown(text: str) -> str:
    content = PageContent(
        answer(text, signals={text[:40] or "s": 0.5}).to_dict(),
        AnswerView(question=text),
        attempts=(AttemptContent(text, text, "refused", 0.1, text, text),),
    )
    return page(content)


def test_hostile_text_stays_text() -> None:
    plain, hostile = Elements(shown("plain")), Elements(shown(HOSTILE))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    data = json.loads(hostile.raw["script"][0])
    assert data["question"] == HOSTILE
    assert data["tokens"][0]["text"] == HOSTILE


@given(st.text(max_size=60))
def test_any_text_can_be_shown(text: str) -> None:
    tags = [tag for tag, _ in Elements(shown(text or " ")).tags]
    assert tags.count("script") == 2
    shown(text or " ").encode("utf-8")


def test_half_a_surrogate_pair_can_be_written() -> None:
    shown("\ud800").encode("utf-8")


def test_nothing_is_loaded_and_only_our_own_script_runs(lvlm: LVLM) -> None:
    messages = chat("examples/desk.png", "What is in the image?")
    text = lvlm.explain(messages, lvlm.generate(messages, max_new_tokens=8)).to_html()
    elements = Elements(text)
    policies = [attributes["content"] for tag, attributes in elements.tags if attributes.get("http-equiv")]
    (policy,) = policies
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, content in (("style", elements.raw["style"][0]), ("script", elements.raw["script"][1])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    links = [value for _, attributes in elements.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert links
    assert all(str(link).startswith("data:image/jpeg;base64,") for link in links)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not [attributes for _, attributes in elements.tags if "style" in attributes]


def test_a_normal_page_is_small(lvlm: LVLM) -> None:
    messages = chat("examples/desk.png", "Describe the image in detail.")
    text = lvlm.explain(messages, lvlm.generate(messages)).to_html()
    assert len(text.encode()) < 500_000


@pytest.mark.parametrize("value", ["</script>", "<!--", "\u2028", "&lt;"])
def test_data_cannot_end_its_element(value: str) -> None:
    text = script_json({"text": value})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"text": value}


def test_a_notebook_shows_it_in_a_frame_and_stays_small() -> None:
    positions = 3000
    picture = PictureView(
        source="image_0", width=9, height=9, jpeg=b"", positions=positions, patches=((0.0, 0.0, 1.0, 1.0),) * positions
    )
    maps = tuple(
        HeatMap(source="saliency", layer=layer, peaks=(1.0,) * 40, values=bytes(40 * positions))
        for layer in (None, 0, 1, 2, 3, 4, 5, 6)
    )
    content = PageContent(answer(" a", 40).to_dict(), AnswerView(question="What?", pictures=(picture,), maps=maps))
    assert len(page(content)) > MAX_NOTEBOOK_BYTES
    frame = notebook_page(content)
    assert len(frame) < 1.2 * MAX_NOTEBOOK_BYTES
    ((tag, attributes),) = Elements(frame).tags
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts allow-downloads allow-modals"
    assert "<!doctype html>" in html.unescape(str(attributes["srcdoc"]))


def test_an_answer_without_tokens_shows_its_text() -> None:
    bare = answer("A cat.").model_copy(update={"tokens": ()})
    text = page(PageContent(bare.to_dict()))
    assert '<p class="answer" dir="auto">A cat.</p>' in text
    assert "The pictures were not kept" in text
    assert "There is no picture in the prompt" in page(PageContent(bare.to_dict(), AnswerView(question="What?")))
    assert "The answer is empty." in page(PageContent(bare.model_copy(update={"text": ""}).to_dict()))


def test_the_boxes_choice_is_there_where_there_are_boxes() -> None:
    picture = PictureView(source="image_0", width=9, height=9, jpeg=b"", positions=1, patches=((0.0, 0.0, 1.0, 1.0),))
    heat = HeatMap(source="saliency", layer=None, peaks=(1.0,), values=bytes(1))
    view = AnswerView(question="What?", pictures=(picture,), maps=(heat,))
    claim = Claim(text="a", kind="object", span=(0, 1), statement="a", box=(0.0, 0.0, 1.0, 1.0), source="image_0")
    boxed = answer(" a").model_copy(update={"claims": (claim,)})
    assert 'id="boxes"' in page(PageContent(boxed.to_dict(), view))
    assert 'id="boxes"' not in page(PageContent(answer(" a").to_dict(), view))


def test_large_pictures_shrink_in_a_notebook() -> None:
    noise = Image.frombytes("RGB", (768, 768), random.Random(1).randbytes(3 * 768 * 768))
    file = io.BytesIO()
    noise.save(file, "JPEG", quality=88)
    pictures = tuple(
        PictureView(source=f"image_{number}", width=768, height=768, jpeg=file.getvalue(), positions=1)
        for number in range(4)
    )
    content = PageContent(answer(" a").to_dict(), AnswerView(question="What?", pictures=pictures))
    assert len(page(content)) > MAX_NOTEBOOK_BYTES
    frame = notebook_page(content)
    assert len(frame) < MAX_NOTEBOOK_BYTES
    assert html.unescape(frame).count("data:image/jpeg;base64,") == 4
