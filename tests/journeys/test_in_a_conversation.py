"""Submissions that must fail while comparing and writing on: each says why, shows a way on and leaves nothing half-written."""

import uuid

import pytest

from apps.annotation.models import Assignment, Comparison, ComparisonItem, Conversation, Turn
from apps.studies.models import Study
from tests.annotation.fieldwork import seated_study
from tests.journeys.stage import REASON, compare_form, finish_live_sets, has_a_way_on, ledger, person, says, says_number

TOO_SHORT = (
    "Please write a little more: at least %(minimum)d word. You have written %(words)d.",
    "Please write a little more: at least %(minimum)d words. You have written %(words)d.",
)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def study(transactional_db) -> Study:
    return seated_study()


@pytest.fixture
def comparing(study, live_server):
    """Somebody in front of their first comparison."""
    bot = person(study, live_server.url)
    bot.walk_to("compare")
    return bot


@pytest.fixture
def writing(comparing):
    """Somebody who has answered the first turn and may write on."""
    assert comparing.browser.post(comparing.browser.page.url, compare_form(comparing)).name == "message"
    return comparing


def at(bot, name: str) -> str:
    return bot.browser.page.url.split("/task/")[0] + f"/task/{name}/"


def test_any_other_address_leads_to_the_current_page(comparing):
    for name in ("", "questions", "consent", "guideline", "practice", "start", "message", "wait", "trouble", "paused", "done", "ended"):
        page = comparing.browser.open(at(comparing, name) if name else at(comparing, "")[:-1])
        assert (page.name, page.status) == ("compare", 200), name


@pytest.mark.parametrize("name", ["questions", "consent", "message", "trouble"])
def test_a_form_of_another_step_is_409_and_writes_nothing(comparing, name):
    data = compare_form(comparing) | {"action": ["retry"], "message": ["Bonjour"], "questionnaire": ["1"], "decision": ["no"]}
    before = ledger()
    page = comparing.browser.post(at(comparing, name), data)
    assert page.status == 409
    assert says(page, "This page is out of date")
    assert has_a_way_on(page)
    assert ledger() == before
    assert comparing.browser.open(page.links[0]).name == "compare"


@pytest.mark.parametrize("choice", [None, "", "9", "-1", "x", "²"])
def test_a_missing_or_unknown_choice_is_422_and_keeps_the_explanation(comparing, choice):
    data = compare_form(comparing)
    if choice is None:
        del data["choice"]
    else:
        data["choice"] = [choice]
    before = ledger()
    page = comparing.browser.post(comparing.browser.page.url, data)
    assert page.status == 422
    assert says(page, "Please choose the answer that you prefer.")
    assert page.form.fields["explanation"].value == REASON
    assert ledger() == before
    assert comparing.browser.submit(page.form, {"choice": ["0"]}).name == "message"


@pytest.mark.parametrize("text", ["", "  \n ", "Trop court", "— … !"])
def test_too_short_an_explanation_is_422_with_text_choice_and_order_kept(comparing, text):
    cards = comparing.browser.page.form.cards
    before = ledger()
    page = comparing.browser.post(comparing.browser.page.url, compare_form(comparing) | {"explanation": [text]})
    assert page.status == 422
    assert says_number(page, *TOO_SHORT, 3, minimum=3, words=2 if text == "Trop court" else 0)
    assert page.form.fields["explanation"].value.split() == text.split()
    assert page.form.fields["choice"].given == ["1"]
    assert page.form.cards == cards
    assert ledger() == before
    assert comparing.browser.submit(page.form, {"explanation": [REASON]}).name == "message"


def test_too_long_an_explanation_is_422(comparing):
    before = ledger()
    page = comparing.browser.post(comparing.browser.page.url, compare_form(comparing) | {"explanation": ["mot " * 2500]})
    assert page.status == 422
    assert "8000" in page.text
    assert ledger() == before


def test_the_same_comparison_sent_twice_is_stored_once(comparing):
    data = compare_form(comparing)
    address = comparing.browser.page.url
    for _ in range(2):
        page = comparing.browser.post(address, data)
        assert (page.name, page.status) == ("message", 200)
    assert Comparison.objects.count() == 1
    assert ComparisonItem.objects.count() == 4


def test_the_same_id_with_another_choice_is_409_and_the_first_stands(comparing):
    data = compare_form(comparing)
    address = comparing.browser.page.url
    comparing.browser.post(address, data)
    kept = ledger()
    page = comparing.browser.post(address, data | {"choice": ["2"]})
    assert page.status == 409
    assert says(page, "This was sent before with other contents")
    assert says(page, "We kept the first version that arrived. Please go on from your current page.")
    assert has_a_way_on(page)
    assert ledger() == kept


def test_a_second_tab_of_an_answered_turn_is_409(comparing):
    first = compare_form(comparing)
    comparing.browser.open(comparing.browser.page.url)
    second = compare_form(comparing)
    assert first["submission_id"] != second["submission_id"]
    address = comparing.browser.page.url
    comparing.browser.post(address, first)
    kept = ledger()
    page = comparing.browser.post(address, second)
    assert page.status == 409
    assert says(page, "You have already moved on, perhaps in another tab. Nothing is lost.")
    assert has_a_way_on(page)
    assert ledger() == kept


@pytest.mark.parametrize("broken", ["", "not-a-uuid", "1"])
def test_a_form_without_a_usable_submission_id_is_409(comparing, broken):
    before = ledger()
    page = comparing.browser.post(comparing.browser.page.url, compare_form(comparing) | {"submission_id": [broken]})
    assert page.status == 409
    assert has_a_way_on(page)
    assert ledger() == before


def test_an_empty_message_is_422(writing):
    before = ledger()
    page = writing.browser.submit(writing.browser.page.form, {"message": [" \n"]}, writing.browser.page.form.button("action", "send"))
    assert page.status == 422
    assert says(page, "Please write a message first.")
    assert ledger() == before
    assert writing.browser.submit(page.form, {"message": ["Et ensuite ?"]}, page.form.button("action", "send")).name == "wait"


def test_too_long_a_message_is_422_and_stays_typed(writing):
    text = "mot " * 1200
    before = ledger()
    page = writing.browser.submit(writing.browser.page.form, {"message": [text]}, writing.browser.page.form.button("action", "send"))
    assert page.status == 422
    assert "4000" in page.text
    assert page.form.fields["message"].value.split() == text.split()
    assert ledger() == before


def test_ending_before_the_minimum_is_not_offered_and_422_when_forced(writing):
    form = writing.browser.page.form
    assert form.button("action", "end") is None
    before = ledger()
    page = writing.browser.post(writing.browser.page.url, form.untouched() | {"action": ["end"], "message": ["Encore une chose"]})
    assert page.status == 422
    assert says(page, "This conversation needs more messages before it can end.")
    assert page.form.fields["message"].value == "Encore une chose"
    assert ledger() == before


def test_the_same_message_sent_twice_makes_one_turn(writing):
    data = writing.browser.page.form.untouched() | {"message": ["Et ensuite ?"], "action": ["send"]}
    address = writing.browser.page.url
    for _ in range(2):
        assert writing.browser.post(address, data).name == "wait"
    kept = ledger()
    page = writing.browser.post(address, data | {"message": ["Autre chose"]})
    assert page.status == 409
    assert ledger() == kept
    assert Turn.objects.count() == 2


def test_ending_pressed_twice_ends_once(writing):
    form = writing.browser.page.form
    writing.browser.submit(form, {"message": ["Et ensuite ?"]}, form.button("action", "send"))
    finish_live_sets()
    writing.browser.open(at(writing, "compare"))
    writing.browser.post(writing.browser.page.url, compare_form(writing))
    form, address = writing.browser.page.form, writing.browser.page.url
    data = form.untouched() | {"action": ["end"]}
    assert writing.browser.post(address, data).status == 200
    kept = ledger()
    assert writing.browser.post(address, data).status in (200, 409)
    assert ledger() == kept
    assert Assignment.objects.get().state == Assignment.State.COMPLETED


def test_starting_twice_claims_one_seat(study, live_server):
    bot = person(study, live_server.url)
    data = bot.walk_to("start").form.untouched()
    address = bot.browser.page.url
    for submission_id in (data["submission_id"], data["submission_id"], [str(uuid.uuid4())]):
        assert bot.browser.post(address, data | {"submission_id": submission_id}).name == "compare"
    assert Assignment.objects.count() == Conversation.objects.count() == 1


def test_what_belongs_to_somebody_else_cannot_be_used(study, comparing, live_server):
    """Another person's submission ids are conflicts, their positions and turns are never reached."""
    other = person(study, live_server.url, seed="2")
    other.walk_to("compare")
    theirs = compare_form(other)
    other.browser.post(other.browser.page.url, theirs)
    kept = ledger()
    page = comparing.browser.post(comparing.browser.page.url, compare_form(comparing) | {"submission_id": theirs["submission_id"]})
    assert page.status == 409
    assert says(page, "This was sent before with other contents")
    assert has_a_way_on(page)
    assert ledger() == kept

    comparing.browser.open(at(comparing, "compare"))
    comparing.browser.post(comparing.browser.page.url, compare_form(comparing))
    sent = other.browser.page.form.untouched() | {"message": ["Et ensuite ?"], "action": ["send"]}
    other.browser.post(other.browser.page.url, sent)
    kept = ledger()
    page = comparing.browser.post(at(comparing, "message"), comparing.browser.page.form.untouched() | sent)
    assert page.status in (403, 409)  # 403: the token of the other's browser
    mine = comparing.browser.open(at(comparing, "message")).form.untouched()
    page = comparing.browser.post(at(comparing, "message"), mine | {"message": ["Et ?"], "submission_id": sent["submission_id"]})
    assert page.status == 409
    assert ledger() == kept


def test_a_foreign_questionnaire_is_409(study, live_server):
    bot = person(study, live_server.url)
    form = bot.walk_to("questions").form
    foreign = study.locales.get(language="en").questionnaires.get(stage="ELIGIBILITY")
    before = ledger()
    page = bot.browser.submit(form, {"questionnaire": [str(foreign.pk)], "q_adult": ["yes"]})
    assert page.status == 409
    assert has_a_way_on(page)
    assert ledger() == before


@pytest.mark.parametrize("field", ["explanation", "message"])
def test_what_no_database_can_hold_is_cleaned_not_an_error(writing, field):
    text = "Et en\x00suite\ud800, que\x08 faire\ufffe ?"
    form = writing.browser.page.form
    body = {"message": [text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")]}
    if field == "message":
        assert writing.browser.submit(form, body, form.button("action", "send")).name == "wait"
        assert "\x00" not in Turn.objects.get(number=2).message
    else:
        writing.browser.submit(form, {"message": ["Et ensuite ?"]}, form.button("action", "send"))
        finish_live_sets()
        writing.browser.open(at(writing, "compare"))
        writing.browser.post(writing.browser.page.url, compare_form(writing) | {"explanation": [body["message"][0]]})
        assert "\x00" not in Comparison.objects.latest("pk").explanation
