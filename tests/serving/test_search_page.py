"""The page in a real browser: search by text, by image, by both; what cannot be read; titles that are markup."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil

import pytest
from serving_shop import on_loopback

from afmrl.data.offer import Offer
from afmrl.index.address import open_index
from afmrl.serving.keys import Keys
from conftest import save_image

pytest_plugins = ["serving_shop"]
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium is installed", allow_module_level=True)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> <b>hostile</b>"
SECONDS = 60_000  # milliseconds; a busy machine answers late


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """The page, opened; at its end nothing was said on the console and nothing was asked of another host."""
    opened = browser.new_page()
    opened.set_default_timeout(SECONDS)
    faults = []
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    own = (address, "data:", "blob:")
    opened.on("request", lambda sent: faults.append(sent.url) if not sent.url.startswith(own) else None)
    opened.goto(address)
    wait_for_status(opened, "60 offers.")
    yield opened
    opened.close()
    # a browser says on its console that an answer was a refusal; only the test of one expects it
    assert [fault for fault in faults if "status of 400" not in fault] == []


def wait_for_status(page, text):
    page.wait_for_function("text => document.getElementById('status').textContent.includes(text)", arg=text)


def titles(page):
    return page.locator(".found-hit .title").all_text_contents()


def test_a_text_finds_offers_with_images_reasons_and_filters(page):
    page.fill("#text", "Maison Lune mug, red, size m")
    page.click("button.go")
    wait_for_status(page, "10 offers")
    first = page.locator(".found-hit").first
    assert first.locator(".title").text_content() == "Maison Lune mug, red, size m"
    assert "agrees" in first.get_attribute("class") and "color red" in first.locator(".eq").first.text_content()
    vetoed = page.locator(".found-hit.vetoed").first
    assert vetoed.locator(".score").text_content() == "veto" and "red | " in vetoed.locator(".ne").first.text_content()
    page.wait_for_function("() => document.querySelectorAll('.picture img').length > 3")
    page.fill("[name=category]", "LAMP")
    page.press("[name=category]", "Enter")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.title')].every((one) => /lamp/.test(one.textContent))"
    )
    assert len(titles(page)) == 10


def test_an_image_alone_and_with_a_text_and_then_the_same_product(page, tmp_path):
    page.set_input_files("#file", save_image(tmp_path / "a.png", 26))
    wait_for_status(page, "10 offers")
    assert page.locator(".reasons li").count() == 0  # nothing is said of an image alone
    page.fill("#text", "lamp")
    page.click("button.go")
    page.wait_for_function("() => document.querySelector('.reasons li')")
    page.locator(".same-product").first.click()
    wait_for_status(page, "nearest to")
    page.click("#clear")
    assert page.locator("#preview").is_hidden()


def test_what_is_no_image_is_told_and_the_page_goes_on(page, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not an image")
    page.set_input_files("#file", tmp_path / "broken.jpg")
    wait_for_status(page, "query.image: not an image")
    assert "wrong" in page.locator("#status").get_attribute("class")
    page.click("#clear")
    page.fill("#text", "mug")
    page.click("button.go")
    wait_for_status(page, "10 offers")


def test_a_title_that_is_markup_is_shown_as_text(served, own_index, browser):
    with open_index(str(own_index)) as index:  # past the cleaning that offers get on their way in
        rows = index.get(["mug/24", "mug/25"])
        hostile = [
            Offer(
                HOSTILE, HOSTILE, attributes={HOSTILE: HOSTILE}, category=HOSTILE, extra={"link": "https://a.example/"}
            ),
            Offer("2", "hostile, no link", extra={"link": "javascript:document.title='owned'"}),
        ]
        ids = [offer.id for offer in hostile]
        index.upsert(dataclasses.replace(rows, ids=ids, offers=hostile))
    client = served()
    with on_loopback(client.app) as address:
        page = browser.new_page()
        page.set_default_timeout(SECONDS)
        page.goto(f"{address}/?text=hostile+img+onerror")
        wait_for_status(page, "10 offers")
        assert HOSTILE in titles(page) and "hostile, no link" in titles(page)
        assert page.title() == "Search · afmrl" and page.locator("#hits b:text('hostile')").count() == 0
        assert [link.get_attribute("href") for link in page.locator(".offer-link").all()] == ["https://a.example/"]
        page.close()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.fill("#text", "Maison Lune mug, red, size m")
    page.click("button.go")
    wait_for_status(page, "10 offers")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_server_with_keys_asks_for_one_and_shows_images_with_it(served, browser):
    key = "k" * 24
    client = served(keys=Keys({hashlib.sha256(key.encode()).hexdigest(): "read"}))
    with on_loopback(client.app) as address:
        page = browser.new_page()
        page.set_default_timeout(SECONDS)
        page.goto(address)
        wait_for_status(page, "a key is needed")
        page.fill("[name=key]", key)
        page.press("[name=key]", "Tab")
        wait_for_status(page, "60 offers.")
        page.fill("#text", "Maison Lune mug, red, size m")
        page.click("button.go")
        wait_for_status(page, "10 offers")
        page.wait_for_function("() => document.querySelectorAll('.picture img').length > 3")
        assert page.locator(".picture img").first.get_attribute("src").startswith("blob:")
        page.close()
