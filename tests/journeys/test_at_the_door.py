"""Submissions that must fail before any conversation: each says why in the person's language, shows a way on and writes nothing."""

import uuid
from datetime import date

import pytest

from apps.annotators.models import Annotator, Consent, RecruitmentLink
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.desk.simulation.browser import Browser
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.studies.models import Study
from tests.annotation.fieldwork import seated_study
from tests.journeys.stage import annotator, has_a_way_on, ledger, link_to, person, says

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def study(transactional_db) -> Study:
    return seated_study()


def french() -> Browser:
    return Browser(language="fr-FR")


def test_an_unknown_link_is_404(study, live_server):
    before = ledger()
    page = french().open(f"{live_server.url}/join/no-such-token/")
    assert page.status == 404
    assert says(page, "We do not know this link")
    assert says(page, "Check that the whole link was copied. If it still fails, ask whoever sent it to you for a new one.")
    assert ledger() == before


@pytest.mark.parametrize("closed", ["link", "study"])
def test_a_closed_link_is_410_before_and_after_the_form_was_opened(study, live_server, closed):
    bot = person(study, live_server.url)
    form = bot.browser.open(bot.link).form
    if closed == "link":
        RecruitmentLink.objects.update(is_open=False)
    else:
        Study.objects.update(state=Study.State.CLOSED)
    before = ledger()
    for page in (french().open(bot.link), bot.browser.submit(form, {"agreed": ["yes"]})):
        assert page.status == 410
        assert page.language.startswith("fr")
        assert says(
            page, "The link is closed or the study has ended. You can close this page; whoever sent you the link can tell you more."
        )
    assert ledger() == before


def test_an_unknown_locale_is_404_and_offers_those_there_are(study, live_server):
    link = RecruitmentLink.objects.create(study=study, name="both")
    link.locales.set(study.locales.all())
    before = ledger()
    browser = french()
    page = browser.open(f"{live_server.url}/join/{link.token}/?locale=de-DE")
    assert page.status == 404
    assert "de-DE" in page.text
    assert page.links == ["?locale=en-US", "?locale=fr-FR"]
    assert browser.open(page.links[1]).form is not None
    tampered = browser.submit(browser.page.form, {"agreed": ["yes"], "locale": ["de-DE"]})
    assert tampered.status == 404
    assert ledger() == before


def test_consent_without_the_tick_is_422_and_the_same_form_works_with_it(study, live_server):
    bot = person(study, live_server.url)
    form = bot.browser.open(bot.link).form
    before = ledger()
    page = bot.browser.submit(form)
    assert page.status == 422
    assert says(page, "Please tick the box if you agree. If you do not, you can simply close this page.")
    assert ledger() == before
    assert page.form.fields["submission_id"].value == form.fields["submission_id"].value
    assert bot.browser.submit(page.form, {"agreed": ["yes"]}).name == "questions"
    assert Consent.objects.get().granted


def test_joining_pressed_twice_makes_one_person(study, live_server):
    bot = person(study, live_server.url)
    form = bot.browser.open(bot.link).form
    data = form.untouched() | {"agreed": ["yes"]}
    for _ in range(2):
        assert bot.browser.post(bot.link, data).name == "questions"
    assert Annotator.objects.count() == Consent.objects.count() == 1


def test_a_second_tab_of_the_same_browser_does_not_join_a_second_person(study, live_server):
    bot = person(study, live_server.url)
    first, second = bot.browser.open(bot.link).form, bot.browser.open(bot.link).form
    assert bot.browser.post(bot.link, first.untouched() | {"agreed": ["yes"]}).name == "questions"
    assert bot.browser.post(bot.link, second.untouched() | {"agreed": ["yes"]}).name == "questions"
    assert Annotator.objects.count() == 1


def test_a_form_without_the_csrf_token_is_403(study, live_server):
    bot = person(study, live_server.url)
    form = bot.browser.open(bot.link).form
    before = ledger()
    data = form.untouched() | {"agreed": ["yes"]}
    del data["csrfmiddlewaretoken"]
    page = bot.browser.post(bot.link, data)
    assert page.status == 403
    assert says(page, "Your browser did not send the security cookie")
    assert says(page, "Please allow cookies for this site, go back, reload the page and send the form again.")
    without_cookies = french().post(bot.link, form.untouched() | {"agreed": ["yes"]})
    assert without_cookies.status == 403
    assert ledger() == before


def test_every_posting_page_wants_the_csrf_token(study, live_server):
    bot = person(study, live_server.url)
    bot.walk_to("questions")
    before = ledger()
    for name in ("questions", "consent", "guideline", "practice", "start", "compare", "message", "trouble", "leave"):
        page = bot.browser.post(f"{live_server.url}/task/{name}/", {"submission_id": [str(uuid.uuid4())]})
        assert page.status == 403, name
        assert has_a_way_on(page)
    assert ledger() == before


def test_somebody_under_18_is_thanked_and_nothing_they_said_is_kept(study, live_server):
    bot = person(study, live_server.url)
    form = bot.walk_to("questions").form
    page = bot.browser.submit(form, {"q_adult": ["no"]})
    assert (page.name, page.status) == ("ended", 200)
    assert says(page, "This study is not open to you")
    assert annotator().state == Annotator.State.SCREENED_OUT
    assert not DemographicAnswer.objects.exists()
    assert bot.run().outcome == "screened out"


def test_a_birth_year_under_18_ends_in_the_same_way(study, live_server):
    bot = person(study, live_server.url)
    bot.browser.submit(bot.walk_to("questions").form, {"q_adult": ["yes"]})
    page = bot.browser.submit(bot.browser.page.form, {"q_birth_year": [str(date.today().year - 17)], "q_gender": ["woman"]})
    assert page.name == "ended"
    assert says(page, "This study is not open to you")
    assert annotator().state == Annotator.State.SCREENED_OUT
    assert not DemographicAnswer.objects.exists()


def test_a_person_of_exactly_18_takes_part(study, live_server):
    bot = person(study, live_server.url)
    bot.browser.submit(bot.walk_to("questions").form, {"q_adult": ["yes"]})
    page = bot.browser.submit(bot.browser.page.form, {"q_birth_year": [str(date.today().year - 18)]})
    assert page.name == "guideline"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "Please answer this question."),
        ({"q_adult": ["maybe"]}, "Please choose one of the answers in the list."),
        ({"q_adult": ["yes", "no"]}, "Please choose one answer only."),
    ],
)
def test_a_wrong_answer_is_422_beside_its_question(study, live_server, answers, message):
    bot = person(study, live_server.url)
    form = bot.walk_to("questions").form
    before = ledger()
    page = bot.browser.submit(form, answers)
    assert page.status == 422
    assert says(page, message)
    assert ledger() == before
    assert bot.browser.submit(page.form, {"q_adult": ["yes"]}).status == 200


@pytest.mark.parametrize("year", ["85", "abcd", "1785", "2980"])
def test_a_year_that_is_none_is_422_and_stays_typed(study, live_server, year):
    bot = person(study, live_server.url)
    bot.browser.submit(bot.walk_to("questions").form, {"q_adult": ["yes"]})
    before = ledger()
    page = bot.browser.submit(bot.browser.page.form, {"q_birth_year": [year], "q_gender": ["woman"]})
    assert page.status == 422
    assert says(page, "Please write your year of birth with four digits, for example 1985.")
    assert page.form.fields["q_birth_year"].value == year
    assert page.form.fields["q_gender"].given == ["woman"]
    assert ledger() == before


def test_a_questionnaire_sent_twice_is_kept_once_and_a_changed_one_is_409(study, live_server):
    bot = person(study, live_server.url)
    data = bot.walk_to("questions").form.untouched() | {"q_adult": ["yes"]}
    address = bot.browser.page.url
    bot.browser.post(address, data)
    kept = ledger()
    assert bot.browser.post(address, data).status == 200
    conflict = bot.browser.post(address, data | {"q_adult": ["no"]})
    assert conflict.status == 409
    assert says(conflict, "This was sent before with other contents")
    assert has_a_way_on(conflict)
    assert ledger() == kept
    assert QuestionnaireResponse.objects.count() == 1


def test_a_full_quota_is_told_before_any_work(study, live_server):
    quota = Quota.objects.create(study=study, key="all")
    quota.locales.set(study.locales.all())
    QuotaCell.objects.create(quota=quota, key="all", target=1)
    first, second = person(study, live_server.url, seed="1"), person(study, live_server.url, seed="2")
    first.walk_to("guideline")
    journey = second.run()
    assert journey.outcome == "quota full"
    assert not {"guideline", "practice", "start", "compare"} & set(journey.visited)
    assert says(second.browser.page, "This group is already complete")
    refused = annotator()
    assert refused.state == Annotator.State.QUOTA_FULL
    assert not refused.placements.exists()
    assert Placement.objects.count() == 1
    assert not DemographicAnswer.objects.filter(annotator=refused).exists(), "the page says that the answers were not kept"


def test_a_page_of_the_study_without_having_joined_is_403_and_says_how_to_come_back(study, live_server):
    before = ledger()
    for name in ("", "questions/", "compare/", "wait/status/", "done/", "leave/"):
        page = french().open(f"{live_server.url}/task/{name}")
        assert page.status == 403
        assert says(page, "Please open your personal link again")
    assert ledger() == before


def test_one_browser_that_joined_is_led_on_when_it_opens_the_link_again(study, live_server):
    bot = person(study, live_server.url)
    bot.walk_to("questions")
    assert bot.browser.open(bot.link).name == "questions"
    assert bot.browser.open(link_to(study, live_server.url, "en-US")).name == "questions"
    assert Annotator.objects.count() == 1
