"""Opening a page is never an action: link previews, prefetching and impatient people open pages too."""

import pytest
from django.contrib.sessions.models import Session

from apps.annotation.models import ShownCandidate, Turn
from apps.studies.models import PracticeTask
from tests.annotation.fieldwork import seated_study
from tests.journeys.stage import compare_form, ledger, other_device, person, walk_to

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = (
    "", "questions/", "consent/", "guideline/", "practice/", "start/", "compare/", "message/", "wait/", "wait/status/", "trouble/",
    "paused/", "done/", "ended/", "leave/",
)  # fmt: skip
STEPS = ("questions", "guideline", "practice", "start", "compare", "message", "wait", "consent", "done")


def test_no_get_request_writes_anything_at_any_step(transactional_db, live_server):
    study = seated_study()
    bot = person(study, live_server.url)
    before = ledger()
    stranger = other_device(bot)
    for address in (bot.link, f"{bot.link}?locale=en-US", f"{live_server.url}/", f"{live_server.url}/task/"):
        stranger.open(address)
    assert ledger() == before
    assert not Session.objects.exists()

    visited = []
    for step in STEPS:
        page = bot.walk_to("wait") if step == "wait" else walk_to(bot, step)
        visited.append(page.name)
        before = ledger()
        for name in PAGES:
            assert bot.browser.open(f"/task/{name}").status == 200
        bot.browser.open(bot.link)
        other_device(bot).open(bot.link)
        other_device(bot).open(live_server.url + page.link_to("/resume/"))
        assert ledger() == before, f"at {step}"
        bot.browser.open("/task/")
    assert tuple(visited) == STEPS


def test_the_first_rendering_of_a_turn_is_the_one_exception_and_stores_what_was_shown(transactional_db, live_server):
    bot = person(seated_study(), live_server.url)
    form = walk_to(bot, "start").form
    before = ledger()
    bot.browser.submit(form, button=form.buttons[0])
    assert bot.browser.page.name == "compare"
    turn = Turn.objects.get()
    assert turn.shown_at is not None
    cards = bot.browser.page.form.cards
    assert [(card.position, card.letter, card.text) for card in cards] == [
        (shown.position, shown.letter, shown.text) for shown in ShownCandidate.objects.order_by("position")
    ]
    changed = {table for table, entry in ledger().items() if before[table] != entry}
    shown = ledger()
    bot.browser.open(bot.browser.page.url)
    assert bot.browser.page.form.cards == cards
    assert ledger() == shown
    assert changed == {
        "annotation.Assignment",
        "annotation.Conversation",
        "annotation.ShownCandidate",
        "annotation.Slot",
        "annotation.Turn",
    }
    assert bot.browser.post(bot.browser.page.url, compare_form(bot)).name == "message"


def test_a_guideline_without_a_practice_task_leads_on_without_writing_on_get(transactional_db, live_server):
    study = seated_study()
    PracticeTask.objects.all().delete()
    bot = person(study, live_server.url)
    form = walk_to(bot, "guideline").form
    assert bot.browser.submit(form, button=form.buttons[0]).name == "start"
    before = ledger()
    assert bot.browser.open("/task/practice/").name == "start"
    assert ledger() == before
