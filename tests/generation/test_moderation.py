"""A live message or answer that moderation refuses reaches no model and no person; where moderation fails, nothing is shown."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.annotation.models import Turn
from apps.annotation.selectors import Step, current_step
from apps.annotation.services import give_up_turn, rewrite_message, submit_message
from apps.generation.client import EndpointError
from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec
from apps.generation.moderation import parse_verdict
from apps.generation.offline_endpoint.banks import REFUSED_WORD, Banks
from apps.generation.services import Outcome, generate_set, request_candidate_set, request_live_set, retry_failed_sets
from apps.generation.services.rewriting import NothingToRewrite, rewrite_live_message
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study
from tests.endpoints import banks

REFUSED = f"Tell me about the {REFUSED_WORD} next door."
ALLOWED = "How do I talk to my neighbors about the noise?"


def moderated(study) -> ModelSpec:
    model_spec = ModelSpec.objects.create(
        study=study, key="moderator", model="moderator-1", max_tokens=40, timeout_seconds=1, input_price=1, output_price=1
    )
    GenerationPolicy.objects.update_or_create(study=study, defaults={"moderation_model": model_spec})
    return model_spec


@pytest.fixture
def moderator(study) -> ModelSpec:
    return moderated(study)


def live(recipe, text: str) -> CandidateSet:
    return request_live_set(recipe=recipe, language="en", messages=[{"role": "user", "content": text}])


def run(candidate_set: CandidateSet, later: float = 0) -> Outcome:
    outcome = generate_set(candidate_set_id=candidate_set.pk, now=timezone.now() + timedelta(seconds=later))
    candidate_set.refresh_from_db()
    return outcome


def banks_that_say(text: str) -> Banks:
    """English replies of which the balanced one holds `text`."""
    words = "one of several replies that are long enough to be read as an answer by a person"
    replies = {"negatively_correlated": [f"Reply {n} is {words} {n}." for n in ("one", "two", "three")], "default": [f"{text} is {words}."]}
    return Banks([{"language": "en", "offline_replies": replies, "answers": {}}])


def test_a_refused_message_fails_at_once_and_no_model_sees_it(offline_endpoint, moderator, recipe):
    candidate_set = live(recipe, REFUSED)
    assert run(candidate_set) == Outcome.FAILED
    assert (candidate_set.state, candidate_set.error_code) == ("FAILED", "message_not_allowed")
    assert offline_endpoint.calls == 1
    assert not GenerationAttempt.objects.exists()
    verdict = candidate_set.moderation["message"]
    assert (verdict["allowed"], verdict["category"], verdict["endpoint"]) == (False, "test word", "moderator")
    moderator.refresh_from_db()
    assert moderator.committed == Decimal(verdict["cost"]) > 0
    retry_failed_sets(candidate_set_ids=[candidate_set.pk])
    assert run(candidate_set, later=5) == Outcome.FAILED
    assert offline_endpoint.calls == 1, "the verdict is stored; nobody pays for it twice"


def test_allowed_messages_and_answers_are_ready_with_their_verdicts(offline_endpoint, moderator, recipe):
    candidate_set = live(recipe, ALLOWED)
    assert run(candidate_set) == Outcome.READY
    assert candidate_set.moderation["message"]["allowed"] is True
    assert [verdict["allowed"] for verdict in candidate_set.moderation["answers"]] == [True, True]
    assert offline_endpoint.calls == 5
    assert ALLOWED not in str(candidate_set.moderation)


def test_a_refused_answer_is_a_failed_attempt_and_only_it_is_asked_again(offline_endpoint, moderator, recipe):
    candidate_set = live(recipe, ALLOWED)
    offline_endpoint.server.banks = banks_that_say(REFUSED_WORD)
    assert run(candidate_set) == Outcome.RETRY
    assert candidate_set.candidates.count() == 0
    failed = candidate_set.attempts.get(state=GenerationAttempt.State.FAILED)
    assert (failed.recipe_part.method, failed.error_code) == ("default", "answer_not_allowed")
    offline_endpoint.server.banks = banks()
    assert run(candidate_set, later=30) == Outcome.READY
    assert candidate_set.attempts.filter(recipe_part__method="negatively_correlated").count() == 1
    assert REFUSED_WORD not in " ".join(candidate_set.candidates.values_list("text", flat=True))


@pytest.mark.parametrize("switches", [{"status": 503}, {"mode": "html"}, {"mode": "empty"}, {"hang": True}])
def test_nothing_is_shown_while_moderation_fails(offline_endpoint, moderator, recipe, switches):
    candidate_set = live(recipe, ALLOWED)
    offline_endpoint.set(**switches, times=1)
    assert run(candidate_set) == Outcome.RETRY
    assert candidate_set.moderation is None
    assert not candidate_set.candidates.exists()
    assert run(candidate_set, later=60) == Outcome.READY


def test_pregenerated_sets_and_studies_without_moderation_ask_nobody(offline_endpoint, moderator, recipe):
    made = request_candidate_set(recipe=recipe, language="en", text=REFUSED)
    assert run(made) == Outcome.READY
    assert made.moderation is None
    GenerationPolicy.objects.update(moderation_model=None)
    candidate_set = live(recipe, REFUSED)
    assert run(candidate_set) == Outcome.READY


@pytest.mark.parametrize(
    "output",
    ["", "yes", "true", '{"allowed": true}', '{"allowed": "true", "category": ""}', '{"allowed": 1, "category": ""}', "[" * 100_000,
     'Fine. {"allowed": true, "category": ""}', '{"allowed": true, "category": "", "note": ""}'],
)  # fmt: skip
def test_an_unreadable_verdict_is_an_endpoint_failure(output):
    with pytest.raises(EndpointError) as error:
        parse_verdict(output)
    assert error.value.code == "moderation_unreadable"


def test_a_category_cannot_carry_the_persons_words():
    assert parse_verdict('{"allowed": false, "category": "Anna Rossi, 3 Mill Lane"}') == (False, "other")
    assert parse_verdict('```json\n{"allowed": true, "category": ""}\n```') == (True, "")


# --- What the person meets ------------------------------------------------------------------------------------------


@pytest.fixture
def person(db, offline_endpoint):
    """Somebody whose second message was refused."""
    study = seated_study(prompts=1)
    moderated(study)
    study.instruction_templates.update(text_en="Answer in English. Write {count} answers, each after a line [[answer]].")
    study.instruction_templates.filter(key="default").update(text_en="Answer in English.")
    annotator = admitted_annotator(study)
    claim(annotator)
    judge(annotator)
    turn = submit_message(annotator=annotator, turn_number=2, message=REFUSED, submission_id=_id(1), now=NOW)
    assert run(turn.candidate_set) == Outcome.FAILED
    return annotator


@pytest.fixture
def browser(client, person):
    session = client.session
    session[SESSION_ANNOTATOR] = person.pk
    session.save()
    return client


def _id(number: int):
    import uuid

    return uuid.UUID(int=number)


def test_the_page_is_kind_and_offers_the_typed_text(browser, person):
    page = browser.get("/task/trouble/")
    assert page.status_code == 200
    assert "does not count against you" in page.text
    assert f">{REFUSED}</textarea>" in page.text
    assert "moderator" not in page.text
    assert "our fault" not in page.text
    assert "test word" not in page.text


def test_another_message_goes_on_where_the_refused_one_stopped(browser, person):
    form = {"action": "rewrite", "turn": "2", "message": ALLOWED, "submission_id": str(_id(2))}
    assert browser.post("/task/trouble/", form).status_code == 303
    turn = Turn.objects.get(number=2)
    assert (turn.message, turn.submission_id, current_step(person).step) == (ALLOWED, _id(2), Step.WAIT)
    assert turn.candidate_set.messages[-1]["content"] == ALLOWED
    assert turn.candidate_set.messages[0]["role"] == "user"
    assert [verdict["category"] for verdict in turn.candidate_set.moderation["refused"]] == ["test word"]
    assert browser.post("/task/trouble/", form).status_code == 303, "a replay changes nothing"
    assert run(turn.candidate_set) == Outcome.READY
    assert current_step(person).step == Step.COMPARE
    assert browser.post("/task/trouble/", {**form, "message": "Something else", "submission_id": str(_id(3))}).status_code == 409


@pytest.mark.parametrize(("message", "words"), [("  ", "Please write a message first"), ("x" * 4001, "4001 characters")])
def test_a_mistake_in_the_new_message_keeps_the_page(browser, person, message, words):
    form = {"action": "rewrite", "turn": "2", "message": message, "submission_id": str(_id(2))}
    page = browser.post("/task/trouble/", form)
    assert page.status_code == 422
    assert words in page.text
    assert current_step(person).step == Step.TROUBLE


def test_a_second_refusal_offers_the_same_way_on_and_closing_costs_nothing(browser, person):
    rewrite_message(annotator=person, turn_number=2, message=f"Again {REFUSED_WORD}.", submission_id=_id(2), now=NOW)
    turn = Turn.objects.get(number=2)
    assert run(turn.candidate_set) == Outcome.FAILED
    assert len(turn.candidate_set.moderation["refused"]) == 1
    assert f"Again {REFUSED_WORD}." in browser.get("/task/trouble/").text
    give_up_turn(annotator=person, now=NOW)
    assert Turn.objects.get(number=2).state == Turn.State.FAILED


def test_only_a_refused_message_can_be_rewritten(offline_endpoint, moderator, recipe):
    candidate_set = live(recipe, ALLOWED)
    run(candidate_set)
    with pytest.raises(NothingToRewrite):
        rewrite_live_message(candidate_set_id=candidate_set.pk, message="x")
