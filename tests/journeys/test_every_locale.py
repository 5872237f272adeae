"""One synthetic annotator per locale of the demo study, from consent to completion, through everything that is real."""

from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from apps.annotation.models import Assignment, Comparison, Turn
from apps.annotation.services import seat_study
from apps.annotators.models import Annotator, Consent
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.desk.simulation.bot import Journey, Outcome
from apps.desk.simulation.crowd import send_crowd
from apps.desk.simulation.links import Links
from apps.desk.study_file import load_study_file
from apps.generation.models import CandidateSet
from apps.generation.services import enqueue_pending
from apps.quotas.models import Placement
from apps.studies.models import Study
from tests.endpoints import wait_until
from tests.journeys.stage import link_to

PRESET = Path(settings.BASE_DIR) / "apps" / "desk" / "presets" / "community_alignment.yaml"


@pytest.fixture
def demo_study(transactional_db, worker) -> Study:
    """The demo study, seated, its candidates made by the worker."""
    load_study_file(PRESET)
    study = Study.objects.get(slug="community-alignment")
    seat_study(study=study)
    enqueue_pending(study=study)
    wait_until(lambda: not CandidateSet.objects.exclude(state=CandidateSet.State.READY).exists(), seconds=120)
    return study


def test_one_person_per_locale_completes_and_the_database_holds_what_they_saw(demo_study, live_server):
    tags = [locale.tag for locale in demo_study.locales.all()]
    links = Links(study=demo_study.slug, by_tag={tag: link_to(demo_study, live_server.url, tag) for tag in tags})
    journeys = send_crowd(links=links, annotators=len(tags), seed=7, workers=3, patience=60)

    assert [(journey.outcome, journey.reason) for journey in journeys] == [(Outcome.COMPLETED, "")] * len(tags)
    assert [journey.tag for journey in journeys] == tags == ["en-US", "en-IN", "hi-IN", "fr-FR", "it-IT", "pt-BR"]
    for journey in journeys:
        annotator = Annotator.objects.get(completion_code=journey.completion_code)
        assert annotator.state == Annotator.State.COMPLETED
        assert annotator.study_locale.tag == journey.tag
        check_conversations(annotator, journey, demo_study)
        check_consent_and_answers(annotator, journey)
    assert set(Placement.objects.values_list("annotator_id", flat=True)) == set(Annotator.objects.values_list("pk", flat=True))
    for placement in Placement.objects.select_related("annotator"):
        assert placement.state == Placement.State.COMPLETED
        assert placement.annotator.joined_at < placement.reserved_at < placement.annotator.guideline_read_at < placement.ended_at


def check_conversations(annotator: Annotator, journey: Journey, study: Study) -> None:
    """Texts, letters, choices and explanations as the person had them; complete sets; 2 to 4 turns."""
    conversations = list(annotator.conversations.order_by("pk"))
    assert len(conversations) == len(journey.conversations) == study.conversations_per_annotator
    for conversation, seen in zip(conversations, journey.conversations, strict=True):
        assert conversation.assignment.state == Assignment.State.COMPLETED
        turns = list(conversation.turns.all())
        assert len(turns) == len(seen.turns)
        assert 2 <= len(turns) <= 4
        replies = []
        for turn, seen_turn in zip(turns, seen.turns, strict=True):
            assert turn.state == Turn.State.ANSWERED
            assert (turn.number, turn.message) == (seen_turn.number, seen_turn.message)
            assert turn.created_at <= turn.shown_at <= turn.answered_at <= timezone.now()
            shown = list(turn.shown_candidates.all())
            assert [(item.letter, item.text) for item in shown] == [(card.letter, card.text) for card in seen_turn.cards]
            assert len({item.text for item in shown}) == 4
            assert {item.candidate.candidate_set_id for item in shown} == {turn.candidate_set_id}
            comparison = Comparison.objects.current().get(turn=turn)
            assert comparison.explanation == seen_turn.explanation
            assert comparison.detected_language == annotator.study_locale.language
            best = comparison.items.get(rank=1).shown_candidate
            assert (best.letter, best.text) == (seen_turn.chosen.letter, seen_turn.chosen.text)
            assert comparison.items.filter(rank=2).count() == 3
            replies.append(best.text)
            assert [message["content"] for message in turn.candidate_set.messages if message["role"] == "assistant"] == replies[:-1]


def check_consent_and_answers(annotator: Annotator, journey: Journey) -> None:
    """Consent came before every answer and covers it; nothing sensitive is stored without its own."""
    participation = annotator.consents.get(consent_form__purpose="PARTICIPATION")
    assert participation.granted
    sensitive = annotator.consents.get(consent_form__purpose="SENSITIVE")
    assert sensitive.granted is journey.sensitive_consent
    assert QuestionnaireResponse.objects.filter(annotator=annotator).count() == len(journey.answers)
    given = {
        (name.removeprefix("q_"), value) for answers in journey.answers for name, values in answers.items() for value in values if value
    }
    answers = DemographicAnswer.objects.filter(annotator=annotator).select_related("consent", "response", "question", "option")
    stored = {(answer.question.code, answer.option.code) for answer in answers if not answer.age_group}
    assert stored == {(code, value) for code, value in given if not value.isdecimal()}
    assert answers.exclude(age_group="").count() == sum(value.isdecimal() for _, value in given)
    for answer in answers:
        assert answer.consent.granted
        assert answer.consent.consent_form.purpose == answer.response.questionnaire.consent
        assert answer.consent.given_at <= answer.response.submitted_at
    if not sensitive.granted:
        assert not answers.filter(consent=sensitive).exists()
    assert Consent.objects.filter(annotator=annotator).count() == 2
