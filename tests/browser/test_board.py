"""The board in a browser: it counts again by itself, waits for whoever types, works without its script, and reads well."""

import re
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from apps.annotators.models import Annotator, RecruitmentLink
from apps.quotas.models import Placement, QuotaCell
from apps.quotas.services import set_target
from apps.studies.models import Study
from tests.annotation.fieldwork import admitted_annotator, claim, seated_study
from tests.browser.test_accessibility import RULES
from tests.factories import RecruitmentLinkFactory, UserFactory
from tests.quotas.sampling import quota

AGES = ["18-34", "35-45", "46-54", "55+"]


def fieldwork() -> Study:
    """Eight cells from empty to over, a soft quota, a pilot, somebody silent and somebody turned away."""
    now = timezone.now()
    study = seated_study(prompts=12, slug="neighbours", opened_at=now - timedelta(days=5))
    english, french = study.locales.all()
    cells = {f"{gender} {age}": (5, {"gender": [gender], "birth_year": [age]}) for gender in ("female", "male") for age in AGES}
    places = quota(study, "age_gender", locales=[english], **cells)
    quota(study, "education", kind="SOFT", locales=[english], degree=(20, {}), none=(20, {"gender": ["male"]}))
    quota(study, "everybody", locales=[french], all=(30, {}))
    for place, cell in enumerate(places.cells.order_by("pk")):
        for number in range(min(place, 6)):
            done = number < place - 1
            ended = {"state": "COMPLETED", "ended_at": now} if done else {}
            someone = admitted_annotator(study, admitted_at=now, **ended)
            state = {"state": "COMPLETED", "ended_at": now - timedelta(days=number), "is_over": number > 4} if done else {}
            Placement.objects.create(annotator=someone, quota=places, cell=cell, reserved_at=now, **state)
    claim(admitted_annotator(study, admitted_at=now))
    silent = admitted_annotator(study, admitted_at=now)
    Annotator.objects.filter(pk=silent.pk).update(active_at=now - timedelta(days=2))
    admitted_annotator(study, state="QUOTA_FULL", end_reason="CELL_FULL", ended_at=now)
    pilot = RecruitmentLinkFactory(study=study, name="pilot", purpose=RecruitmentLink.Purpose.PILOT)
    admitted_annotator(study, recruitment_link=pilot)
    set_target(cell=places.cells.get(key="male 55+"), target=4, version=1, user=UserFactory(username="marie"), now=now)
    return study


def log_in(page: Page, server_url: str) -> None:
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True, username="lea"))
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": server_url}])


@pytest.fixture
def study(transactional_db) -> Study:
    return fieldwork()


@pytest.fixture
def board(page: Page, live_server, study) -> Page:
    """The board with a clock that the test moves."""
    page.clock.install(time=0)
    page.clock.pause_at(1_000)
    log_in(page, live_server.url)
    page.goto(f"{live_server.url}/admin/board/{study.pk}/")
    return page


def target_of(page: Page, cell: QuotaCell):
    return page.locator(f"#cell-{cell.pk} input[name=target]")


def test_it_says_its_age_and_counts_again(board, study) -> None:
    cell = QuotaCell.objects.get(key="female 18-34")
    expect(board.locator("#board-age")).to_have_text("Counted 0 s ago.")
    board.clock.run_for(12_000)
    expect(board.locator("#board-age")).to_have_text("Counted 12 s ago.")
    QuotaCell.objects.filter(pk=cell.pk).update(target=77)
    with board.expect_response("**/figures/"):
        board.clock.run_for(4_000)
    expect(target_of(board, cell)).to_have_value("77")
    expect(board.locator("#board-age")).to_have_text(re.compile(r"Counted [01] s ago\."))


def test_what_is_being_typed_stays_and_the_page_says_why(board, study) -> None:
    cell = QuotaCell.objects.get(key="female 18-34")
    asked: list[str] = []
    board.on("request", lambda request: asked.append(request.url))
    target_of(board, cell).fill("8")
    board.locator("h1").click()
    board.clock.run_for(40_000)
    expect(board.locator("#board-age")).to_contain_text("Not refreshed while you edit a target.")
    expect(target_of(board, cell)).to_have_value("8")
    assert asked == []


def test_a_hidden_page_asks_nothing(board) -> None:
    asked: list[str] = []
    board.on("request", lambda request: asked.append(request.url))
    board.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    board.clock.run_for(60_000)
    assert [url for url in asked if not url.endswith("/icon.svg")] == []  # Chromium fetches the icon when it likes
    board.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    with board.expect_response("**/figures/"):
        board.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_refresh_keeps_what_is_opened_and_focused(board, study) -> None:
    board.locator("#slowest summary").click()
    board.locator("#funnel-table").focus()
    with board.expect_response("**/figures/"):
        board.clock.run_for(16_000)
    expect(board.locator("#board-age")).to_have_text(re.compile(r"Counted [01] s ago\."))
    expect(board.locator("#slowest")).to_have_attribute("open", "")
    assert board.evaluate("document.activeElement.id") == "funnel-table"


def test_a_refresh_that_fails_is_told(board) -> None:
    board.route("**/figures/", lambda route: route.fulfill(status=500))
    board.clock.run_for(16_000)
    expect(board.locator("#board-age")).to_contain_text("The last refresh failed")


def test_a_stale_target_is_told_and_stays_typed(board, study) -> None:
    cell = QuotaCell.objects.get(key="female 18-34")
    target_of(board, cell).fill("8")
    set_target(cell=cell, target=9, version=1, user=UserFactory(username="paul"), now=timezone.now())
    target_of(board, cell).press("Enter")
    expect(board.locator("#edit-error")).to_contain_text("The target of female 18-34 is 9 now: paul changed it")
    expect(target_of(board, cell)).to_have_value("8")
    target_of(board, cell).press("Enter")
    expect(board.locator(".messagelist")).to_contain_text("The target of female 18-34 is 8.")


def test_it_works_without_its_script(browser: Browser, live_server, study) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, live_server.url)
    page.goto(f"{live_server.url}/admin/board/{study.pk}/")
    expect(page.locator("#board-age")).to_have_text(re.compile(r"Counted at .* UTC\."))
    cell = QuotaCell.objects.get(key="female 18-34")
    target_of(page, cell).fill("8")
    page.locator(f"#cell-{cell.pk} button").click()
    expect(target_of(page, cell)).to_have_value("8")
    context.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_and_nothing_sticks_out(page, live_server, study, complaints, width) -> None:
    log_in(page, live_server.url)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{live_server.url}/admin/board/{study.pk}/")
    page.locator("#slowest summary").click()
    found = []
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme)
        page.evaluate("Promise.all(document.getAnimations().map((fade) => fade.finished))")  # the admin's links fade into their colour
        found += Axe().run(page, context="#content", options=rules).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints.found == []
