"""What breaks from outside: the endpoint, the worker, the session, the person's mind. Nothing is lost and everybody is told."""

import json

import pytest

from apps.annotation.models import Assignment, Change, Conversation, ShownCandidate, Slot, Turn
from apps.annotators.models import Annotator, Consent
from apps.annotators.models.demographics import DemographicAnswer
from apps.desk.simulation.bot import Outcome
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.studies.models import Study
from tests.annotation.fieldwork import seated_study
from tests.endpoints import wait_until
from tests.journeys.stage import (
    REASON,
    annotator,
    compare_form,
    everything_stored,
    has_a_way_on,
    ledger,
    other_device,
    person,
    says,
    walk_to,
    work_off,
)

pytestmark = pytest.mark.django_db(transaction=True)
MESSAGE = "Et que penser du zéphyr de novembre ?"


@pytest.fixture
def study(transactional_db) -> Study:
    return seated_study()


def write_on(bot) -> None:
    """Answer the first turn and send a message of one's own."""
    walk_to(bot, "compare")
    bot.browser.post(bot.browser.page.url, compare_form(bot))
    form = bot.browser.page.form
    bot.browser.submit(form, {"message": [MESSAGE]}, form.button("action", "send"))
    assert bot.browser.page.name == "wait"


def status(bot) -> dict:
    code, body = bot.browser.get_text("/task/wait/status/")
    assert code == 200
    return json.loads(body)


BREAKDOWNS = [
    {"status": 503},
    {"status": 401},
    *({"mode": mode} for mode in ("truncated", "malformed", "wrong_count", "duplicate", "empty", "html")),
]


@pytest.mark.parametrize("breakdown", BREAKDOWNS, ids=lambda switches: str(next(iter(switches.values()))))
def test_an_endpoint_that_fails_leads_to_a_page_that_says_so_and_never_to_half_a_set(study, live_server, offline_endpoint, breakdown):
    offline_endpoint.set(**breakdown)
    bot = person(study, live_server.url)
    write_on(bot)
    assert status(bot) == {"waiting": True, "next": "/task/wait/"}
    work_off()
    assert status(bot) == {"waiting": False, "next": "/task/trouble/"}
    page = bot.browser.open("/task/")
    assert (page.name, page.status) == ("trouble", 200)
    assert says(page, "This is our fault, not yours: the language model did not reply properly. Your message is saved.")
    turn = Turn.objects.get(number=2)
    assert turn.message == MESSAGE
    assert not Candidate.objects.filter(candidate_set=turn.candidate_set).exists()
    assert not ShownCandidate.objects.filter(turn=turn).exists()

    # Tried again while it is still down: the same page, and nothing half-made.
    retry = page.form.untouched() | {"action": ["retry"]}
    address = page.url
    assert bot.browser.post(address, retry).name == "wait"
    again = bot.browser.post(address, retry)
    assert again.status == 409
    assert has_a_way_on(again)
    work_off()
    assert bot.browser.open("/task/").name == "trouble"

    # Back again: the retry brings four answers.
    offline_endpoint.set()
    assert bot.browser.submit(bot.browser.page.form, button=bot.browser.page.form.button("action", "retry")).name == "wait"
    work_off()
    page = bot.browser.open("/task/")
    assert page.name == "compare"
    assert len({card.text for card in page.form.cards}) == 4
    assert MESSAGE in page.text
    # Two rounds of four tries; the circuit breaker may spare a failing endpoint some of the last ones.
    assert GenerationAttempt.objects.filter(candidate_set=turn.candidate_set, state="FAILED").count() >= 5


def test_giving_up_costs_the_person_nothing_and_gives_the_seat_back(study, live_server, offline_endpoint):
    offline_endpoint.set(status=500)
    bot = person(study, live_server.url)
    write_on(bot)
    work_off()
    form = bot.browser.open("/task/").form
    page = bot.browser.submit(form, button=form.button("action", "give_up"))
    assert page.name in ("consent", "start")
    assignment = Assignment.objects.get()
    assert assignment.state == Assignment.State.RETURNED
    assert assignment.slot.state == Slot.State.OPEN
    assert Turn.objects.get(number=2).state == Turn.State.FAILED
    offline_endpoint.set()
    walk_to(bot, "done")
    assert Conversation.objects.count() == study.conversations_per_annotator


def test_with_the_worker_stopped_a_live_turn_waits_honestly_and_goes_on_when_it_is_back(study, live_server, worker):
    worker.stop()
    bot = person(study, live_server.url)
    write_on(bot)
    page = bot.browser.page
    assert says(page, "The answers are being written")
    assert says(page, "If it takes longer, you can leave this page open or come back later with your personal link. You lose nothing.")
    assert has_a_way_on(page)
    before = ledger()
    for _ in range(3):
        assert status(bot) == {"waiting": True, "next": "/task/wait/"}
        assert bot.browser.open("/task/").name == "wait"
    assert ledger() == before
    assert CandidateSet.objects.get(is_live=True).state == CandidateSet.State.PENDING

    worker.start()
    wait_until(lambda: not status(bot)["waiting"], seconds=60)
    page = bot.browser.open("/task/")
    assert page.name == "compare"
    assert len({card.text for card in page.form.cards}) == 4
    assert bot.run().outcome == Outcome.COMPLETED, bot.journey.reason


def test_a_lost_session_goes_on_from_the_personal_link_on_another_device(study, live_server):
    bot = person(study, live_server.url)
    here = walk_to(bot, "compare")
    link = here.link_to("/resume/")
    assert link

    there = other_device(bot)
    assert there.open(here.url).status == 403
    offer = there.open(live_server.url + link)
    assert offer.status == 200
    assert says(offer, "Continue the study")
    before = ledger()
    there.open(live_server.url + link)
    assert ledger() == before
    page = there.submit(offer.form, button=offer.form.buttons[0])
    assert page.name == "compare"
    assert page.form.cards == here.form.cards

    assert there.post(page.url, page.form.untouched() | {"choice": ["0"], "explanation": [REASON]}).name == "message"
    late = bot.browser.post(here.url, compare_form(bot))
    assert late.status == 409
    assert bot.browser.open(late.links[0]).name == "message"
    assert Annotator.objects.count() == 1


def test_a_personal_link_that_we_did_not_sign_is_404(study, live_server):
    bot = person(study, live_server.url)
    link = walk_to(bot, "guideline").link_to("/resume/")
    for wrong in (f"{link[:-3]}xx/", "/resume/00000000-0000-0000-0000-000000000000/", "/resume/x:y/"):
        page = other_device(bot).open(live_server.url + wrong)
        assert page.status == 404
        assert says(page, "We do not know this link")


@pytest.mark.parametrize(
    "name", ["questions", "guideline", "practice", "start", "compare", "message", "wait", "trouble", "consent", "done"]
)
def test_leaving_from_any_page_erases_the_words_frees_the_seat_and_excludes_the_person(study, live_server, name, offline_endpoint):
    quota = Quota.objects.create(study=study, key="all")
    quota.locales.set(study.locales.all())
    QuotaCell.objects.create(quota=quota, key="all", target=5)
    bot = person(study, live_server.url)
    words = []
    if name in ("wait", "trouble"):
        write_on(bot)
        words = [MESSAGE, REASON]
        if name == "trouble":
            offline_endpoint.set(status=500)
            work_off()
            bot.browser.open("/task/")
    else:
        walk_to(bot, name)
        words = [turn.explanation for turn in bot.journey.turns]
    assert bot.browser.page.name == name
    assert all(text in everything_stored() for text in words)
    had_comparisons = Change.objects.count()

    page = bot.browser.open(bot.browser.page.link_to("/task/leave/"))
    assert says(
        page, "Your answers, messages and explanations will be deleted and will not be in any later publication. This cannot be undone."
    )
    form, address = page.form, page.url
    page = bot.browser.submit(form, button=form.buttons[0])
    assert (page.name, page.status) == ("ended", 200)
    assert says(page, "You have left the study")

    assert annotator().state == Annotator.State.WITHDRAWN
    assert not DemographicAnswer.objects.exists()
    assert not any(text in everything_stored() for text in words)
    assert not Slot.objects.exclude(state=Slot.State.OPEN).exists()
    assert not Assignment.objects.exclude(state=Assignment.State.WITHDRAWN).exists()
    assert not Placement.objects.exclude(state=Placement.State.RELEASED).exists()
    assert Change.objects.filter(kind=Change.Kind.ERASED).count() == had_comparisons
    assert Consent.objects.filter(consent_form__purpose="PARTICIPATION", granted=True).count() == 1

    kept = ledger()
    assert bot.browser.post(address, form.untouched()).name == "ended"
    assert bot.browser.open("/task/").name == "ended"
    assert ledger() == kept
