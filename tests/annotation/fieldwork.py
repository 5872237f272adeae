"""Bring people and seats to a given point through the real services."""

import uuid
from datetime import UTC, datetime

from apps.annotation.models import Assignment, Comparison
from apps.annotation.selectors import current_work
from apps.annotation.services import claim_next_assignment, seat_study, show_turn, submit_comparison
from apps.annotators.models import Annotator
from apps.core.text import fingerprint
from apps.generation.models import Candidate, CandidateSet
from apps.studies.models import Study
from tests.factories import AnnotatorFactory, PromptFactory, StudyFactory

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REASON = "B is short, A is long winded."


def make_ready(candidate_set: CandidateSet) -> None:
    """Give a pending set its k candidates, as a worker would."""
    for slot in range(candidate_set.k):
        text = f"Answer of slot {slot} to set {candidate_set.pk}."
        source = "default" if slot == candidate_set.k - 1 else "negatively_correlated"
        Candidate.objects.create(candidate_set=candidate_set, slot=slot, text=text, text_fingerprint=fingerprint(text), source=source)
    CandidateSet.objects.filter(pk=candidate_set.pk).update(state=CandidateSet.State.READY, ready_at=NOW)


def seated_study(*, prompts: int = 3, k: int = 4, **fields) -> Study:
    """An open study with `prompts` prompts, its slots seated and every candidate set ready."""
    study = StudyFactory(k=k, **fields)
    PromptFactory.create_batch(prompts, study=study)
    seat_study(study=study)
    for candidate_set in CandidateSet.objects.filter(recipe__study=study, state=CandidateSet.State.PENDING):
        make_ready(candidate_set)
    return study


def admitted_annotator(study: Study, **fields) -> Annotator:
    """Somebody who has answered the questions, read the guideline and passed the practice."""
    return AnnotatorFactory(study=study, guideline_read_at=NOW, practice_passed_at=NOW, **fields)


def claim(annotator: Annotator, now: datetime = NOW) -> Assignment:
    return claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=now)


def judge(annotator: Annotator, position: int = 0, now: datetime = NOW, **fields) -> Comparison:
    """Show the current turn and choose the candidate at `position`."""
    turn = current_work(annotator).turn
    show_turn(turn=turn, device_class="desktop", now=now)
    arguments = {"turn_number": turn.number, "explanation": REASON, "layout": "column", "submission_id": uuid.uuid4()} | fields
    return submit_comparison(annotator=annotator, chosen_position=position, now=now, **arguments)
