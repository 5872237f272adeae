"""What site.js adds to the pages, each thing by itself."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from apps.annotation.models import Comparison, Turn
from apps.annotators.models import Annotator, LinkOpening
from apps.annotators.selectors import resume_token
from apps.core.text import count_words
from tests.annotation.fieldwork import admitted_annotator, claim, seated_study
from tests.factories import RecruitmentLinkFactory

REASON = "B is short and A is long winded, in 2 ways."


def open_own_page(page: Page, server_url: str, annotator: Annotator) -> None:
    """Come back by the personal link, as on another device."""
    page.goto(server_url + reverse("annotation:resume", args=[resume_token(annotator)]))
    with page.expect_navigation():
        page.locator("main form button").click()


@pytest.fixture
def comparing(page: Page, live_server, transactional_db):
    """Brings somebody to their first comparison; `comparing(k=2)` to a pairwise one."""

    def bring(k: int = 4) -> Page:
        annotator = admitted_annotator(seated_study(prompts=1, k=k))
        claim(annotator)
        open_own_page(page, live_server.url, annotator)
        assert page.url.endswith("/task/compare/")
        return page

    return bring


def sent_comparisons(page: Page) -> list[str]:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    return sent


def test_a_double_click_sends_and_stores_one_comparison(comparing) -> None:
    page = comparing()
    sent = sent_comparisons(page)
    page.locator(".card").first.click()
    page.locator("#explanation").fill(REASON)

    with page.expect_navigation():
        page.locator("#comparison button").dblclick(no_wait_after=True)

    expect(page).to_have_url(re.compile("/task/message/$"))
    assert Comparison.objects.count() == 1
    assert len(sent) == 1


def test_a_double_click_stores_one_comparison_without_the_script_too(comparing) -> None:
    page = comparing()
    page.route("**/site.js", lambda route: route.abort())
    page.reload()
    page.locator(".card").first.click()
    page.locator("#explanation").fill(REASON)

    # The second press breaks off the first: only where both end is of interest.
    page.locator("#comparison button").dblclick(no_wait_after=True)
    expect(page).to_have_url(re.compile("/task/message/$"))
    assert Comparison.objects.count() == 1


def test_the_second_of_two_submits_is_held_back_and_the_button_comes_back(comparing) -> None:
    page = comparing()
    page.locator(".card").first.click()
    page.locator("#explanation").fill(REASON)
    sent = sent_comparisons(page)
    page.route("**/task/compare/", lambda route: route.fulfill(status=204) if route.request.method == "POST" else route.continue_())
    button = page.locator("#comparison button")

    page.clock.install()
    button.click(no_wait_after=True)
    page.clock.run_for(100)
    expect(button).to_be_disabled()
    page.evaluate("document.getElementById('comparison').requestSubmit()")
    assert len(sent) == 1
    page.clock.run_for(15_000)
    expect(button).to_be_enabled()


@pytest.mark.parametrize(("key", "place"), [("1", 0), ("4", 3), ("Numpad2", 1)])
def test_a_number_key_chooses_a_card(key: str, place: int, comparing) -> None:
    page = comparing()
    page.keyboard.press(key)

    expect(page.locator("input[name=choice]").nth(place)).to_be_checked()
    expect(page.locator(".card__chosen").nth(place)).to_be_visible()
    assert page.locator(".card__chosen:visible").count() == 1


def test_a_number_key_beyond_the_last_card_chooses_nothing(comparing) -> None:
    page = comparing()
    page.keyboard.press("5")
    assert page.locator("input[name=choice]:checked").count() == 0


def test_digits_typed_into_the_reason_or_with_a_modifier_choose_nothing(comparing) -> None:
    page = comparing()
    page.keyboard.press("1")
    page.locator("#explanation").focus()
    page.keyboard.type("2 3 4")
    page.locator("body").press("Control+4")

    expect(page.locator("input[name=choice]").first).to_be_checked()
    assert page.locator("#explanation").input_value() == "2 3 4"


def test_the_number_keys_can_be_switched_off_for_good(comparing) -> None:
    page = comparing()
    page.locator("#number-keys input").uncheck()
    page.reload()
    page.keyboard.press("1")
    assert page.locator("input[name=choice]:checked").count() == 0

    page.locator("#number-keys input").check()
    page.keyboard.press("1")
    assert page.locator("input[name=choice]:checked").count() == 1


def test_the_reason_is_asked_after_the_choice(comparing) -> None:
    page = comparing()
    expect(page.locator("#explanation")).to_be_hidden()
    page.locator(".card").nth(1).click()
    expect(page.locator("#explanation")).to_be_visible()


def test_the_reason_stays_after_an_error_and_the_focus_goes_to_the_summary(comparing) -> None:
    page = comparing()
    page.locator(".card").nth(1).click()
    page.locator("#explanation").fill("Two words")
    with page.expect_navigation():
        page.locator("#comparison button").click()

    expect(page.locator("#explanation")).to_have_value("Two words")
    expect(page.locator("input[name=choice]").nth(1)).to_be_checked()
    expect(page.locator(".error-summary")).to_be_focused()
    assert page.title().startswith("Error:")


def test_the_counter_counts_as_the_server_does(comparing) -> None:
    page = comparing()
    texts = [
        "",
        "One two, three-four; five's 6 – 7’8 x_y _ ... !",
        "J’ai lu l’étude : c’est « clair », n’est-ce pas ?",
        "यह जवाब साफ़ है, क्योंकि पहला कदम बताया गया है। क्‍या १२ हाँ?",
        "È così, perché no? Não há açúcar.",
        "e\u0301tude nai\u0308ve",
    ]
    for text in texts:
        assert page.evaluate("text => countWords(text)", text) == count_words(text), text


def test_the_counter_says_when_it_is_enough(comparing) -> None:
    page = comparing()
    page.locator(".card").first.click()
    counter, news = page.locator("#counter"), page.locator("#counter-news")
    expect(counter).to_have_text("Words: 0 (at least 3)")
    page.locator("#explanation").fill("One two")
    expect(counter).to_have_text("Words: 2 (at least 3)")
    expect(news).to_have_text("")
    page.locator("#explanation").fill("One two three four")
    expect(counter).to_have_text("Words: 4, that is enough")
    expect(news).not_to_have_text("")


def test_control_enter_sends_the_reason(comparing) -> None:
    page = comparing()
    page.keyboard.press("2")
    page.locator("#explanation").fill(REASON)
    page.locator("#explanation").press("Enter")
    assert Comparison.objects.count() == 0
    with page.expect_navigation():
        page.locator("#explanation").press("Control+Enter")

    assert page.url.endswith("/task/message/")
    comparison = Comparison.objects.get()
    assert comparison.explanation == REASON
    assert comparison.items.get(rank=1).shown_candidate.position == 1


@pytest.mark.parametrize(("k", "width", "layout"), [(2, 1280, "side_by_side"), (2, 360, "column"), (4, 1280, "column")])
def test_the_layout_is_stored_as_it_really_was(k: int, width: int, layout: str, comparing) -> None:
    page = comparing(k)
    page.set_viewport_size({"width": width, "height": 800})
    boxes = [card.bounding_box() for card in page.locator(".card").all()]
    assert len({box["width"] for box in boxes}) == 1
    assert (len({box["y"] for box in boxes}) == 1) == (layout == "side_by_side")
    page.locator(".card").first.click()
    page.locator("#explanation").fill(REASON)
    with page.expect_navigation():
        page.locator("#comparison button").click()

    assert Turn.objects.get(number=1).layout == layout


def press_enter_as_an_input_method_does(page: Page) -> None:
    """Enter that ends a composition, as Safari tells it: key code 229."""
    session = page.context.new_cdp_session(page)
    for kind in ("keyDown", "keyUp"):
        session.send(
            "Input.dispatchKeyEvent",
            {"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229, "text": "\r" if kind == "keyDown" else ""},
        )


@pytest.mark.parametrize("script", [True, False])
def test_enter_that_ends_a_composition_sends_nothing(script: bool, page, live_server, transactional_db) -> None:
    """With the script it stays; without (the control) this Enter sends the form."""
    page.goto(f"{live_server.url}/join/unknown/")
    form = '<form action="/sent/"><input name="year"><button>Go</button></form>'
    page.evaluate("form => document.querySelector('main').insertAdjacentHTML('beforeend', form)", form)
    if not script:
        page.evaluate("() => document.addEventListener('keydown', event => event.stopImmediatePropagation(), {capture: true})")
    page.locator("[name=year]").focus()
    press_enter_as_an_input_method_does(page)
    page.wait_for_timeout(300)
    assert ("/sent/" in page.url) == (not script)


def test_the_content_policy_refuses_inline_script_and_the_listener_hears_of_it(page, complaints, live_server, transactional_db) -> None:
    """The control of the silent journeys: a violation does not go unheard."""
    page.goto(f"{live_server.url}/join/unknown/")
    before = len(complaints.found)
    page.evaluate("() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); }")
    page.evaluate("() => { const i = document.createElement('img'); i.src = 'https://example.org/a.png'; document.body.append(i); }")
    page.wait_for_timeout(300)

    assert page.evaluate("window.ran") is None
    assert len(complaints.found) >= before + 2


@pytest.fixture
def door(live_server, transactional_db) -> str:
    """The address of a link for one locale."""
    study = seated_study(prompts=1)
    link = RecruitmentLinkFactory(study=study, locales=[study.locales.get(language="en")])
    return live_server.url + reverse("annotation:join", args=[link.token])


def test_the_first_page_tells_that_it_was_opened_and_where_the_person_lives(browser, complaints, door) -> None:
    context = browser.new_context(locale="en-IN", timezone_id="Asia/Kolkata")
    page = context.new_page()
    complaints.listen(context)
    with page.expect_response("**/opened/") as told:
        page.goto(door)
    assert told.value.status == 204

    page.locator("#agreed").check()
    with page.expect_navigation():
        page.locator("#joining button").click()
    person = Annotator.objects.get()
    assert person.time_zone in {"Asia/Kolkata", "Asia/Calcutta"}
    assert LinkOpening.objects.get().submission_id == person.submission_id
    assert complaints.found == []
    context.close()


def test_the_first_page_works_without_the_script(browser, door) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(door)
    page.locator("#agreed").check()
    with page.expect_navigation():
        page.locator("#joining button").click()
    assert Annotator.objects.get().time_zone == ""
    assert not LinkOpening.objects.exists()
    context.close()


def test_an_opening_that_cannot_be_told_troubles_nobody(page, door) -> None:
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.route("**/opened/", lambda route: route.abort())
    page.goto(door)
    page.locator("#agreed").check()
    with page.expect_navigation():
        page.locator("#joining button").click()
    assert Annotator.objects.count() == 1
    assert failures == []
