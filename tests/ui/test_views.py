"""Each view in a browser, over a platform that runs: what it shows, that it is silent, that everybody can use it."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import SCREENS
from topology.demo.scenario import synthetic_scenario
from topology.settings import Settings

VIEWS = {
    "flow": "/",
    "uploads": "/videos",
    "sessions": "/sessions",
    "dead-letters": "/letters",
    "students": "/students",
    "golden-sets": "/golden",
}


@pytest.fixture
def page(browser: Browser, page_url: str) -> Iterator[Page]:
    """A window; the test fails if the page complained in it."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=page_url)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    opened.close()
    assert complaints == []


def keep(page: Page, name: str) -> None:
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"{name}.png", full_page=True)


def accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_accessible_by_day_and_by_night(page: Page, name: str, scheme: str):
    page.emulate_media(color_scheme=scheme)
    page.goto(VIEWS[name])
    expect(page.locator("nav a[aria-current=page]")).to_have_count(1)
    keep(page, f"{name}-{scheme}")
    accessible(page)


def test_the_flow_moves_and_stands_still_on_request(page: Page):
    page.goto("/")
    for title in ("uploads", "candidate lists", "watch to list, p99"):
        expect(page.locator("dt", has_text=re.compile(f"^{title}$"))).to_be_visible()
    expect(page.locator("svg polyline").first).to_be_attached()
    expect(page.locator("#live table tbody tr")).to_have_count(12)
    stamp = page.locator("#live .hint")
    before = stamp.inner_text()
    expect(stamp).not_to_have_text(before, timeout=5_000)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")


def test_every_role_has_caught_up(page: Page):
    page.goto("/")
    for role in ("annotate", "review", "store", "session"):
        tile = page.locator(".tiles.small div", has=page.locator("dt", has_text=re.compile(f"^{role}$")))
        expect(tile.locator("dd")).to_have_text("0 records", timeout=15_000)


def test_an_upload_is_found_by_its_words_and_explained(page: Page):
    upload = synthetic_scenario().uploads[5]
    page.goto("/videos")
    page.get_by_label("Words in title, tags or id").fill(upload.title)
    page.keyboard.press("Enter")
    page.get_by_role("link", name=upload.video_id).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(upload.title)
    rows = page.get_by_role("region", name="Scores").locator("tbody tr")
    expect(rows).to_have_count(15)
    assert rows.locator("svg.scale rect.unsure").count() == 15
    expect(page.get_by_text("What was said of it")).to_be_visible()
    keep(page, "upload")
    accessible(page)


def test_what_a_stranger_wrote_is_shown_and_not_run(page: Page):
    upload = synthetic_scenario().uploads[0]
    page.goto(f"/video?id={quote(upload.video_id)}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>document.title")
    expect(page.locator("h1 b")).to_have_count(0)
    expect(page).to_have_title(f"{upload.video_id} · vibestream")


def test_a_session_shows_mood_lanes_and_reasons(page: Page):
    page.goto("/sessions")
    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", name="What this user is in the mood for")).to_be_visible()
    expect(page.get_by_role("region", name="The list").locator("tbody tr").nth(20)).to_be_attached()
    assert page.locator("section svg.bar").count() > 5
    keep(page, "session")
    accessible(page)


def test_a_dead_letter_is_read_replayed_and_refused_again(page: Page, platform: Settings):
    page.goto("/letters?kind=invalid")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    rows.first.locator("a").click()
    expect(page.locator("pre")).to_contain_text("payload")
    keep(page, "dead-letter")
    accessible(page)
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("status")).to_have_text("1 sent again")
    page.goto("/letters?all=1")
    expect(page.locator("td", has_text=re.compile("^replayed$"))).to_have_count(1)


def test_a_dead_letter_is_dropped_by_keyboard_alone(page: Page):
    page.goto("/letters")
    before = page.locator("tbody tr").count()
    page.locator("tbody input[type=checkbox]").first.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Drop the chosen").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("1 dropped")
    expect(page.locator("tbody tr")).to_have_count(before - 1)


def test_a_student_is_swapped_and_rolled_back(page: Page):
    page.goto("/students")
    page.get_by_role("button", name="Let 2 serve").click()
    expect(page.get_by_role("status")).to_contain_text("version 2 serves now")
    expect(page.locator("tr", has=page.locator(".tag.serving")).locator("th")).to_have_text("2")
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("status")).to_contain_text("version 1 serves again")


def test_an_evaluation_is_shown_with_its_report(page: Page):
    page.goto("/golden")
    expect(page.get_by_role("region", name="Attributes").locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="The report with its curves").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("nano 1")


def test_the_page_says_what_is_not_there(browser: Browser, page_url: str):
    page = browser.new_page(base_url=page_url)
    answer = page.goto("/video?id=nobody")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("alert")).to_contain_text("no video 'nobody'")
    page.close()
