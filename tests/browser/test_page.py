"""The page in a real browser: pointer, keys, slider, files, three widths; no error, and nothing leaves it.

Needs Debian's chromium and the extra ``page-test``; `make page-test` runs it. With ``SCREENSHOTS=docs/page`` the
pictures of the documentation are taken anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from served import Served

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.answer import RejectedCandidate, TokenGrounding
from saliency_guard.answer_view import HeatMap
from saliency_guard.chat.messages import chat, chat_about

DESK = "examples/desk.png"
FOUR = [f"examples/pictures/{name}.png" for name in ("bird", "dog", "glass", "umbrella")]
WIDTHS = (1280, 820, 400)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "install Debian's package chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def explained(lvlm: LVLM) -> GroundedAnswer:
    messages = chat(DESK, "Describe the image in detail.")
    return lvlm.explain(messages, lvlm.generate(messages))


class Opened:
    """A page that is open, and all that it complained of or asked the network for."""

    def __init__(self, browser: Browser, width: int = 1280, **options: Any) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def show(self, path: Path, html: str) -> Page:
        path.write_text(html, encoding="utf-8")
        self.page.goto(path.as_uri())
        return self.page

    def left(self, path: Path) -> list[str]:
        """Requests for anything but the file itself and what it holds."""
        return [url for url in self.requests if not url.startswith(("data:", "blob:")) and url != path.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_token_under_the_pointer_shows_its_map(
    browser: Browser, explained: GroundedAnswer, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "page.html"
    opened = Opened(browser, width, color_scheme=scheme)
    page = opened.show(path, explained.to_html(threshold=0.8))
    assert page.locator(".verdict .number").inner_text() == f"{explained.grounding:.2f}"
    assert page.locator(".token").count() == len(explained.tokens)
    assert page.locator("canvas.shown").count() == 0
    index = next(claim for claim in explained.claims if claim.kind == "object").span[0]
    number = next(
        i for i in range(len(explained.tokens)) if sum(len(t.text) for t in explained.tokens[: i + 1]) > index
    )
    page.hover(f"#t{number}")
    assert page.locator("canvas.shown").count() == 1
    assert explained.tokens[number].text.strip() in page.locator("#detail h3").inner_text()
    assert page.locator("#detail").get_by_text("Most probable").count() == 1
    assert page.locator("#claims li.chosen").count() == 1
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.wait_for_timeout(300)
        file = Path(folder) / f"page-{width}-{scheme}.png"
        page.screenshot(path=file, full_page=width < WIDTHS[0])
        with Image.open(file) as taken:
            taken.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3).save(file, optimize=True)
    assert opened.complaints == []
    assert opened.left(path) == []


def test_keys_walk_keep_and_let_go(browser: Browser, explained: GroundedAnswer, tmp_path: Path) -> None:
    opened = Opened(browser)
    page = opened.show(tmp_path / "page.html", explained.to_html())
    page.focus("#answer")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.get_attribute("#answer", "aria-activedescendant") == "t2"
    page.keyboard.press("Enter")
    assert page.locator(".token.pinned").get_attribute("id") == "t2"
    page.hover("#t7")  # What is kept in view stays.
    assert "token 3 of" in page.locator("#detail h3").inner_text()
    page.keyboard.press("End")
    assert page.locator(".token.pinned").get_attribute("id") == f"t{len(explained.tokens) - 1}"
    page.keyboard.press("Escape")
    assert page.locator(".token.pinned").count() == 0
    assert page.locator("canvas.shown").count() == 0
    page.keyboard.press("Home")
    assert page.get_attribute("#t0", "aria-selected") == "true"
    assert opened.complaints == []


def pixels(page: Page) -> str:
    return str(page.evaluate("document.querySelector('figure canvas').toDataURL()"))


def test_source_and_layer_change_the_map(browser: Browser, explained: GroundedAnswer, tmp_path: Path) -> None:
    page = Opened(browser).show(tmp_path / "page.html", explained.to_html())
    page.click("#t4")
    seen = {pixels(page)}
    page.get_by_text("Attention", exact=True).click()
    seen.add(pixels(page))
    slider = page.locator("#layer")
    for _ in range(3):
        slider.press("ArrowRight")
        seen.add(pixels(page))
    assert len(seen) == 5
    assert page.locator("#layer-name").inner_text() == "2"
    assert slider.get_attribute("aria-valuetext") == "layer 2"


def test_the_map_is_drawn_where_its_positions_lie(browser: Browser, explained: GroundedAnswer, tmp_path: Path) -> None:
    """A map of our own with one bright position: the canvas is bright there, and dark elsewhere."""
    assert explained.view is not None
    picture = explained.view.pictures[0]
    bright = 19
    row = bytes(255 if position == bright else 0 for position in range(picture.positions))
    heat = HeatMap(
        source="saliency", layer=None, peaks=(1.0,) * len(explained.tokens), values=row * len(explained.tokens)
    )
    answer = explained.model_copy(update={"view": explained.view.model_copy(update={"maps": (heat,)})})
    page = Opened(browser).show(tmp_path / "page.html", answer.to_html())
    page.click("#t4")
    box = picture.patches[bright]
    assert box is not None
    red = """([x, y]) => { const c = document.querySelector('figure canvas');
        return c.getContext('2d').getImageData(x * c.width, y * c.height, 1, 1).data[0]; }"""
    middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
    assert page.evaluate(red, middle) > 200
    assert page.evaluate(red, [(middle[0] + 0.5) % 1.0, middle[1]]) < 20


def test_files_are_saved(browser: Browser, explained: GroundedAnswer, tmp_path: Path) -> None:
    opened = Opened(browser)
    page = opened.show(tmp_path / "page.html", explained.to_html())
    page.click("#t4")
    with page.expect_download() as waiting:
        page.click("#save-json")
    waiting.value.save_as(tmp_path / "answer.json")
    assert json.loads((tmp_path / "answer.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(explained.to_dict())
    )
    with page.expect_download() as waiting:
        page.click("#save-png")
    waiting.value.save_as(tmp_path / "answer.png")
    with Image.open(tmp_path / "answer.png") as saved:
        assert saved.width > 600
        assert len(saved.convert("RGB").getcolors(2**24) or []) > 100
    assert opened.complaints == []


def test_the_table_holds_every_token_and_is_printed(
    browser: Browser, explained: GroundedAnswer, tmp_path: Path
) -> None:
    page = Opened(browser).show(tmp_path / "page.html", explained.to_html())
    page.click("summary")
    assert page.locator("#table tbody tr").count() == len(explained.tokens)
    page.emulate_media(media="print")
    assert page.locator(".controls").is_hidden()
    page.set_viewport_size({"width": 720, "height": 900})  # As wide as paper: nothing is cut off.
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.locator("#table").is_visible()


def test_five_hundred_tokens_and_four_pictures_stay_quick(browser: Browser, lvlm: LVLM, tmp_path: Path) -> None:
    messages = chat_about(FOUR, "What does each picture show?")
    text = " There is a bird and a dog on the left, and an umbrella to the right of the glass." * 40
    answer = lvlm.score(messages, text[:2600])
    answer = lvlm.explain(messages, answer)
    assert len(answer.tokens) >= 500
    html = answer.to_html()
    assert len(html) < 6_000_000
    opened = Opened(browser)
    page = opened.show(tmp_path / "page.html", html)
    page.focus("#answer")
    spent = page.evaluate(
        """() => { const start = performance.now(), answer = document.getElementById('answer');
        for (let i = 0; i < 200; i++) {
            answer.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
        }
        return (performance.now() - start) / 200; }"""
    )
    assert page.get_attribute("#answer", "aria-activedescendant") == "t199"
    assert spent < 100, f"{spent} ms for each step"  # Some 5 ms on an idle machine.
    assert opened.complaints == []


def test_hostile_text_runs_nothing(browser: Browser, explained: GroundedAnswer, tmp_path: Path) -> None:
    hostile = '</script><script>console.log("run")</script><img src=x onerror=console.log("run")>'
    token = explained.tokens[0].model_copy(update={"text": hostile, "signals": {hostile: 0.5}})
    assert isinstance(token, TokenGrounding)
    changed = explained.model_copy(update={"text": hostile, "tokens": (token,), "claims": (), "model_id": hostile})
    opened = Opened(browser)
    path = tmp_path / "page.html"
    page = opened.show(path, changed.to_html())
    page.click("#t0")
    page.click("summary")
    assert hostile in page.locator("#table").inner_text()
    assert opened.complaints == []
    assert opened.left(path) == []


def test_keys_in_an_answer_without_tokens_do_nothing(
    browser: Browser, explained: GroundedAnswer, tmp_path: Path
) -> None:
    empty = explained.model_copy(update={"text": "", "tokens": (), "claims": ()})
    opened = Opened(browser)
    page = opened.show(tmp_path / "page.html", empty.to_html())
    page.click(".answer")
    for key in ("ArrowRight", "Enter", "End", "Escape"):
        page.keyboard.press(key)
    assert "The answer is empty." in page.locator(".answer").inner_text()
    assert page.locator("#detail").is_visible()
    with page.expect_download():
        page.click("#save-png")
    assert opened.complaints == []


def test_odd_names_and_numbers_are_shown_as_they_are(
    browser: Browser, explained: GroundedAnswer, tmp_path: Path
) -> None:
    """Names of JavaScript's own, a token that cannot be seen, and a logarithm that is no number."""
    first = explained.tokens[0].model_copy(
        update={"signals": {"constructor": 0.25, "__proto__": 0.5}, "logprob": float("-inf"), "text": "\u200b\u202e"}
    )
    tokens = (first, *explained.tokens[1:])
    changed = explained.model_copy(update={"tokens": tokens, "text": "".join(token.text for token in tokens)})
    opened = Opened(browser)
    page = opened.show(tmp_path / "page.html", changed.to_html())
    page.focus("#answer")
    page.keyboard.press("Home")
    assert page.locator("#detail h3 code").inner_text() == "⟨200B⟩⟨202E⟩"
    assert page.locator("#detail .num").first.inner_text() == "none"
    page.select_option("#measure", label="constructor")
    assert page.locator("#strip .ends").inner_text().startswith("0.00 to 0.25")
    page.click("summary")
    assert page.locator("#table tbody tr").nth(1).locator("td").last.inner_text() == "none"
    assert opened.complaints == []


def test_rejected_candidates_have_bars_of_what_is_written_beside_them(
    browser: Browser, explained: GroundedAnswer, tmp_path: Path
) -> None:
    rejected = RejectedCandidate(text=" cat", token_id=1, logprob=-0.01, saliency=0.25)
    token = explained.tokens[0].model_copy(update={"rejected": (rejected,)})
    changed = explained.model_copy(update={"tokens": (token, *explained.tokens[1:])})
    page = Opened(browser).show(tmp_path / "page.html", changed.to_html())
    page.click("#t0")
    rows = page.locator("#detail .grid > div").filter(has_text="Rejected by SGRS")
    assert rows.locator(".num").inner_text() == "0.250"
    assert rows.locator(".bar b").get_attribute("style") == "width: 25%;"


def test_a_very_long_answer_is_saved_as_a_picture(browser: Browser, explained: GroundedAnswer, tmp_path: Path) -> None:
    words = tuple(
        explained.tokens[0].model_copy(update={"text": " elephants", "position": index}) for index in range(10_000)
    )
    long = explained.model_copy(update={"text": " elephants" * 10_000, "tokens": words, "claims": (), "view": None})
    opened = Opened(browser)
    page = opened.show(tmp_path / "page.html", long.to_html())
    with page.expect_download() as waiting:
        page.click("#save-png")
    waiting.value.save_as(tmp_path / "answer.png")
    with Image.open(tmp_path / "answer.png") as saved:
        assert saved.height == 16_000
    assert opened.complaints == []


def test_a_notebook_s_frame_works(browser: Browser, explained: GroundedAnswer, tmp_path: Path) -> None:
    opened = Opened(browser)
    page = opened.show(tmp_path / "notebook.html", f"<!doctype html><p>A cell</p>{explained._repr_html_()}")
    frame = page.frame_locator("iframe")
    frame.locator("#t4").click()
    assert frame.locator("canvas.shown").count() == 1
    assert opened.complaints == []


def test_the_server_s_form_asks_and_shows(browser: Browser, tmp_path: Path) -> None:
    running = Served()
    try:
        opened = Opened(browser, http_credentials={"username": "me", "password": running.key})
        page = opened.page
        page.goto(f"http://127.0.0.1:{running.port}/")
        page.click("#ask")
        assert "Choose a picture first" in page.locator("#status").inner_text()
        page.set_input_files("#file", DESK)
        page.wait_for_selector("#thumbs img")
        page.click("#ask")
        frame = page.frame_locator("#page")
        frame.locator("#t4").click(timeout=60_000)
        assert frame.locator("canvas.shown").count() == 1
        text = tmp_path / "text.png"
        text.write_text("no picture", encoding="utf-8")
        page.set_input_files("#file", str(text))
        page.click("#ask")
        page.wait_for_selector("#status.wrong")
        # The browser itself tells of the status 400, and of no icon; nothing else.
        assert all("Failed to load resource" in each for each in opened.complaints)
    finally:
        running.stop()


def test_the_server_s_form_works_with_the_token_in_its_address(browser: Browser) -> None:
    running = Served()
    try:
        page = Opened(browser).page
        page.goto(f"http://me:{running.key}@127.0.0.1:{running.port}/")
        page.set_input_files("#file", DESK)
        page.wait_for_selector("#thumbs img")
        page.click("#ask")
        page.frame_locator("#page").locator("#t4").click(timeout=60_000)
    finally:
        running.stop()
