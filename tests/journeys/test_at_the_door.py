"""Submissions that must fail before any conversation: each says why in the person's language, shows a way on and writes nothing."""

import time
import uuid
from datetime import date
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from apps.annotation.services.panel import apply_panel_status
from apps.annotators.identities import decrypt, sign_address
from apps.annotators.models import Annotator, Consent, LinkOpening, PanelEvent, RecruitmentLink
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.annotators.selectors import resume_token
from apps.desk.simulation.bot import Bot
from apps.desk.simulation.browser import Browser
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.studies.models import Study
from tests.annotation.fieldwork import seated_study
from tests.journeys.stage import annotator, compare_form, everything_stored, has_a_way_on, ledger, link_to, other_device, person, says

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
    for name in ("questions", "consent", "guideline", "practice", "start", "compare", "message", "trouble", "leave", "locale"):
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


# --- Links of panels ---

PID, OTHER_PID = "5f3c1e8b9a7d4c0012ab34cd", "60aa1e8b9a7d4c0012ab34ce"


def panel_bot(study: Study, server: str, query: str = f"PROLIFIC_PID={PID}&STUDY_ID=s1&SESSION_ID=x1", **fields) -> Bot:
    """An English speaker who comes from a panel, by the address that the panel made."""
    bot = person(study, server, "en-US", **({"kind": "PROLIFIC"} | fields))
    bot.link += f"?{query}"
    return bot


def signed_query(link: RecruitmentLink, participant: str = PID, age: int = 0) -> str:
    stamp = str(int(time.time()) - age)
    signature = sign_address(link=link, participant=participant, session="x1", stamp=stamp)
    return urlencode({"participant": participant, "session": "x1", "ts": stamp, "sig": signature})


def test_a_panels_person_joins_under_the_identity_of_the_address(study, live_server):
    bot = panel_bot(study, live_server.url)
    before = ledger()
    form = bot.browser.open(bot.link).form
    assert ledger() == before, "opening a link writes nothing"
    assert bot.browser.submit(form, {"agreed": ["yes"], "PROLIFIC_PID": [OTHER_PID]}).name == "questions"
    identity = annotator().panel_identity
    assert (decrypt(identity.participant), identity.panel_study, decrypt(identity.panel_session)) == (PID, "s1", "x1")
    assert PID not in everything_stored()


@pytest.mark.parametrize("participant", ["", "%7B%7B%25PROLIFIC_PID%25%7D%7D", "x" * 101, "%ff%fe", "a&PROLIFIC_PID=b"])
def test_a_panel_link_without_an_identity_is_422_and_says_what_to_do(study, live_server, participant):
    bot = panel_bot(study, live_server.url)
    form = bot.browser.open(bot.link).form
    bare = bot.link.split("?")[0]
    before = ledger()
    broken = f"{bare}?PROLIFIC_PID={participant}"
    for page in (bot.browser.open(broken), bot.browser.open(bare), bot.browser.post(broken, form.untouched() | {"agreed": ["yes"]})):
        assert page.status == 422
        assert "Please open the study from your panel" in page.text
    assert ledger() == before


def test_s12_an_edited_identity_in_a_browser_that_has_joined_does_not_fork(study, live_server):
    bot = panel_bot(study, live_server.url)
    bot.walk_to("questions")
    edited = bot.link.replace(PID, OTHER_PID)
    assert bot.browser.open(edited).name == "questions"
    assert bot.browser.post(edited, bot.browser.page.form.untouched() | {"agreed": ["yes"]}).name == "questions"
    assert Annotator.objects.count() == 1


def test_s12_the_link_in_a_second_browser_goes_on_where_the_person_is(study, live_server):
    bot = panel_bot(study, live_server.url)
    bot.walk_to("guideline")
    second = other_device(bot)
    before = ledger()
    page = second.open(bot.link)
    assert "Welcome back" in page.text
    assert ledger() == before, "opening the link on another device writes nothing"
    assert second.submit(page.form).name == "guideline"
    assert Annotator.objects.count() == 1
    assert bot.browser.open(bot.link).name == "guideline", "the first device goes on too"


def test_a_form_opened_before_joining_elsewhere_does_not_join_again(study, live_server):
    bot = panel_bot(study, live_server.url)
    second = other_device(bot)
    form = second.open(bot.link).form
    bot.walk_to("guideline")
    assert second.submit(form, {"agreed": ["yes"]}).name == "guideline"
    assert Annotator.objects.count() == Consent.objects.count() == 1


def test_s12_a_signed_address_joins_and_an_edited_or_old_one_does_not(study, live_server):
    bot = panel_bot(study, live_server.url, "", kind="PANEL")
    link = RecruitmentLink.objects.get()
    address = bot.link
    before = ledger()
    for query in (signed_query(link).replace(PID, OTHER_PID), signed_query(link, age=25 * 3600), f"participant={PID}"):
        page = bot.browser.open(address + query)
        assert page.status == 403
        assert "This link is no longer valid" in page.text
    assert ledger() == before
    form = bot.browser.open(address + signed_query(link)).form
    swapped = bot.browser.post(address + signed_query(link).replace(PID, OTHER_PID), form.untouched() | {"agreed": ["yes"]})
    assert swapped.status == 403
    assert ledger() == before
    bot.browser.open(address + signed_query(link))
    assert bot.browser.submit(bot.browser.page.form, {"agreed": ["yes"]}).name == "questions"
    assert decrypt(annotator().panel_identity.participant) == PID


def test_s9_a_signature_for_another_link_opens_nothing(study, live_server):
    first, second = panel_bot(study, live_server.url, "", kind="PANEL"), panel_bot(study, live_server.url, "", kind="PANEL")
    own, other = RecruitmentLink.objects.order_by("pk")
    assert first.browser.open(first.link + signed_query(other)).status == 403
    assert second.browser.open(second.link + signed_query(other)).status == 200
    assert own.annotators.count() == 0


def test_the_choice_of_a_language_keeps_the_panels_parameters(study, live_server):
    bot = panel_bot(study, live_server.url)
    RecruitmentLink.objects.get().locales.set(study.locales.all())
    page = bot.browser.open(bot.link)
    assert [link.split("&")[-1] for link in page.links] == ["locale=en-US", "locale=fr-FR"]
    page = bot.browser.open(page.links[0])
    assert bot.browser.submit(page.form, {"agreed": ["yes"]}).name == "questions"
    assert decrypt(annotator().panel_identity.participant) == PID


def test_who_took_part_in_an_excluded_study_is_told_before_any_question(study, live_server):
    earlier = seated_study()
    study.excluded_studies.add(earlier)
    first = panel_bot(earlier, live_server.url)
    first.walk_to("guideline")
    bot = panel_bot(study, live_server.url, screen_out_code="S1", screen_out_url="https://panel.example/out?cc={code}")
    page = bot.walk_to("ended")
    assert "You have taken part in an earlier study" in page.text
    assert "https://panel.example/out?cc=S1" in page.links
    assert annotator().end_reason == Annotator.EndReason.EARLIER_STUDY
    assert "questions" not in bot.journey.visited


def test_who_is_turned_away_sees_the_panels_code_on_every_device(study, live_server):
    bot = panel_bot(study, live_server.url, screen_out_code="S1", screen_out_url="https://panel.example/out?cc={code}")
    page = bot.browser.submit(bot.walk_to("questions").form, {"q_adult": ["no"]})
    assert page.name == "ended"
    for there in (page, other_device(bot).open(bot.link)):
        assert "https://panel.example/out?cc=S1" in there.links
        assert annotator().completion_code not in there.text


def test_who_was_returned_on_the_panel_reads_so_and_has_no_code(study, live_server):
    bot = panel_bot(study, live_server.url, completion_code="C1", completion_url="https://panel.example/done?cc={code}")
    bot.walk_to("compare")
    answer = compare_form(bot)
    apply_panel_status(
        link=RecruitmentLink.objects.get(), event_id="e1", participant=PID, status=PanelEvent.Status.RETURNED, now=timezone.now()
    )
    page = bot.browser.submit(bot.browser.page.form, answer)
    assert page.name == "ended"
    assert "Your panel told us" in page.text
    assert "C1" not in page.text
    assert not [link for link in page.links if "panel.example" in link]


def test_leaving_says_that_the_panels_number_stays_encrypted_until_people_are_paid(study, live_server):
    bot = panel_bot(study, live_server.url)
    bot.walk_to("guideline")
    page = bot.browser.open(f"{live_server.url}/task/leave/")
    assert "stays here, encrypted, until the payments are settled, for 12 months at most" in page.text
    bot.browser.submit(page.form)
    left = annotator()
    assert left.state == Annotator.State.WITHDRAWN
    assert PID not in everything_stored()
    assert decrypt(left.panel_identity.participant) == PID
    assert bot.browser.open(bot.link).name == "ended", "the browser still knows that the person has left"


def test_whoever_left_and_opens_the_panels_link_in_another_browser_reads_that_they_have_left(study, live_server):
    bot = panel_bot(study, live_server.url)
    bot.walk_to("guideline")
    bot.browser.submit(bot.browser.open(f"{live_server.url}/task/leave/").form)
    again = panel_bot(study, live_server.url)
    assert "You have left the study" in again.browser.open(again.link).text
    assert Annotator.objects.count() == 1


def test_leaving_a_direct_link_does_not_speak_of_a_panel(study, live_server):
    bot = person(study, live_server.url, "en-US")
    bot.walk_to("questions")
    assert "encrypted" not in bot.browser.open(f"{live_server.url}/task/leave/").text


# --- Openings ---


def opened(bot: Bot, form, **changes: list[str]) -> int:
    data = {name: form.untouched()[name] for name in ("csrfmiddlewaretoken", "submission_id", "locale")} | changes
    return bot.browser.post(bot.link.split("?")[0] + "opened/", data).status


def test_an_opening_is_counted_once_and_meets_its_person(study, live_server):
    bot = person(study, live_server.url)
    form = bot.browser.open(bot.link).form
    assert not LinkOpening.objects.exists(), "opening alone writes nothing: link previews do that too"
    assert [opened(bot, form), opened(bot, form)] == [204, 204]
    opening = LinkOpening.objects.get()
    assert opening.study_locale.tag == "fr-FR"
    bot.browser.open(bot.link)
    bot.browser.post(bot.link, form.untouched() | {"agreed": ["yes"]})
    assert annotator().submission_id == opening.submission_id


def test_a_preview_leaves_no_opening(study, live_server):
    bot = person(study, live_server.url, purpose="PREVIEW")
    assert opened(bot, bot.browser.open(bot.link).form) == 204
    assert not LinkOpening.objects.exists()


def test_an_absurd_opening_is_refused(study, live_server):
    bot = person(study, live_server.url)
    form = bot.browser.open(bot.link).form
    assert opened(bot, form, submission_id=["x"]) == 400
    assert opened(bot, form, locale=["de-DE"]) == 404
    assert opened(bot, form, csrfmiddlewaretoken=["x"]) == 403
    assert bot.browser.open(bot.link + "opened/").status == 405
    bot.link = f"{live_server.url}/join/no-such-token/"
    assert opened(bot, form) == 404
    assert not LinkOpening.objects.exists()


# --- Another language ---


def both_languages(study: Study, server: str) -> Bot:
    bot = person(study, server, "en-US")
    RecruitmentLink.objects.get().locales.set(study.locales.all())
    bot.link += "?locale=en-US"
    return bot


def test_before_the_first_task_a_person_can_read_on_in_another_language(study, live_server):
    bot = both_languages(study, live_server.url)
    page = bot.walk_to("guideline")
    other = page.link_to("/locale/")
    before = ledger()
    page = bot.browser.open(other)
    assert page.language.startswith("fr")
    assert ledger() == before
    refused = bot.browser.submit(page.form)
    assert refused.status == 422
    assert ledger() == before
    page = bot.browser.submit(refused.form, {"agreed": ["yes"]})
    assert (page.name, page.language) == ("guideline", "fr-FR")
    assert annotator().study_locale.tag == "fr-FR"
    assert [consent.language for consent in annotator().consents.order_by("pk")] == ["en", "fr"]


def test_another_device_reads_on_in_the_new_language_too(study, live_server):
    bot = both_languages(study, live_server.url)
    bot.walk_to("guideline")
    second = other_device(bot)
    second.submit(second.open(f"{live_server.url}/resume/{resume_token(annotator())}/").form)
    page = bot.browser.open(f"{live_server.url}/task/locale/?to=fr-FR")
    bot.browser.submit(page.form, {"agreed": ["yes"]})
    assert says(second.open(f"{live_server.url}/task/guideline/"), "Try an example")


def test_a_full_group_there_keeps_the_person_where_they_are(study, live_server):
    quota = Quota.objects.create(study=study, key="french")
    quota.locales.set(study.locales.filter(language="fr"))
    QuotaCell.objects.create(quota=quota, key="all", target=0)
    bot = both_languages(study, live_server.url)
    bot.walk_to("guideline")
    page = bot.browser.open(f"{live_server.url}/task/locale/?to=fr-FR")
    before = ledger()
    page = bot.browser.submit(page.form, {"agreed": ["yes"]})
    assert page.status == 409
    assert has_a_way_on(page)
    assert ledger() == before
    assert bot.browser.open(f"{live_server.url}/task/").name == "guideline"


def test_no_other_language_is_offered_once_work_has_begun_or_where_there_is_none(study, live_server):
    alone = person(study, live_server.url, "en-US")
    assert not alone.walk_to("guideline").link_to("/locale/")
    assert alone.browser.open(f"{live_server.url}/task/locale/?to=fr-FR").status == 404
    bot = person(study, live_server.url, "en-US")
    RecruitmentLink.objects.order_by("-pk")[0].locales.set(study.locales.all())
    bot.link += "?locale=en-US"
    bot.walk_to("compare")
    assert bot.browser.open(f"{live_server.url}/task/locale/?to=fr-FR").name == "compare"
