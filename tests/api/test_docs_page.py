"""The interactive page in a real Chromium, under the strict policy that the server sends."""

import os
from pathlib import Path

import pytest

from tests.browser.chromium import chromium


@pytest.fixture
def page(transactional_db, live_server, token):
    """A browser page. The rows exist before it opens: Playwright's loop would give this thread a second database connection."""
    with chromium() as browser:
        yield browser.new_page()


@pytest.mark.browser
def test_the_page_lists_and_tries_the_endpoints(live_server, token, page):
    row, text = token
    complaints, foreign = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith((live_server.url, "data:")) else foreign.append(request.url))
    page.goto(f"{live_server.url}/api/v1/docs/")
    page.get_by_text("Comparisons, in the order in which they became final").wait_for()
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".auth-container input").fill(text)
    page.locator(".auth-btn-wrapper button[type=submit]").click()
    page.locator(".auth-btn-wrapper .btn-done").click()
    page.get_by_text("The token's study").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert row.membership.study.slug in page.locator(".live-responses-table").inner_text()
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "api-docs.png", full_page=True)
    assert complaints == []
    assert foreign == []
