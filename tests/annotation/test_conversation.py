import uuid

import pytest

from apps.annotation.errors import (
    EmptyMessage,
    ExplanationTooShort,
    MessageTooLong,
    MissingChoice,
    StaleForm,
    TooFewTurns,
)
from apps.annotation.models import Assignment, Change, Comparison, ComparisonItem, ShownCandidate, Turn
from apps.annotation.randomness import shuffled
from apps.annotation.selectors import Step, comparison_page, current_step, current_work
from apps.annotation.services import (
    end_conversation,
    give_up_turn,
    retry_turn,
    show_turn,
    submit_comparison,
    submit_message,
)
from apps.annotators.errors import SubmissionConflict
from apps.annotators.models import Annotator
from apps.generation.models import CandidateSet
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, make_ready, seated_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def annotator():
    annotator = admitted_annotator(seated_study())
    claim(annotator)
    return annotator


def write(annotator, turn_number=2, message="What would my grandmother say?", key=None):
    return submit_message(annotator=annotator, turn_number=turn_number, message=message, submission_id=key or uuid.uuid4(), now=NOW)


def one_turn(study):
    study.task_design.min_turns = study.task_design.max_turns = 1
    study.task_design.save()


def fail(turn):
    CandidateSet.objects.filter(pk=turn.candidate_set_id).update(state=CandidateSet.State.FAILED, error_code="endpoint_timeout")


class TestShowing:
    def test_the_order_is_the_one_that_the_stored_seed_draws(self, annotator):
        turn = current_work(annotator).turn
        show_turn(turn=turn, device_class="phone", now=NOW)
        shown = list(ShownCandidate.objects.filter(turn=turn).values_list("candidate__slot", flat=True))
        assert shown == shuffled([0, 1, 2, 3], turn.display_seed)

    def test_shown_twice_it_keeps_the_first_order_time_and_device(self, annotator):
        turn = current_work(annotator).turn
        show_turn(turn=turn, device_class="phone", now=NOW)
        show_turn(turn=current_work(annotator).turn, device_class="desktop", now=NOW.replace(hour=20))
        turn.refresh_from_db()
        assert (turn.shown_at, turn.device_class, turn.shown_candidates.count()) == (NOW, "phone", 4)

    def test_an_incomplete_set_is_never_shown(self, annotator):
        turn = current_work(annotator).turn
        turn.candidate_set.candidates.first().delete()
        with pytest.raises(StaleForm):
            show_turn(turn=turn, device_class="", now=NOW)
        assert not ShownCandidate.objects.exists()

    def test_the_page_knows_letters_and_texts_and_nothing_else(self, annotator):
        show_turn(turn=current_work(annotator).turn, device_class="", now=NOW)
        page = comparison_page(annotator, current_work(annotator))
        assert [card.letter for card in page.cards] == ["A", "B", "C", "D"]
        assert set(vars(page.cards[0])) == {"letter", "position", "text"}


class TestComparing:
    def test_the_chosen_position_gets_rank_one_and_the_others_share_rank_two(self, annotator):
        comparison = judge(annotator, position=2)
        ranks = dict(comparison.items.values_list("shown_candidate__position", "rank"))
        assert ranks == {0: 2, 1: 2, 2: 1, 3: 2}
        assert comparison.turn.state == Turn.State.ANSWERED
        assert Change.objects.get().comparison == comparison

    def test_r5_a_replay_returns_the_first_comparison(self, annotator):
        key = uuid.uuid4()
        first = judge(annotator, submission_id=key)
        again = submit_comparison(
            annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="column", submission_id=key, now=NOW
        )
        assert again == first
        assert Comparison.objects.count() == 1

    def test_r5_the_same_id_with_another_body_is_refused(self, annotator):
        key = uuid.uuid4()
        judge(annotator, submission_id=key)
        with pytest.raises(SubmissionConflict):
            submit_comparison(
                annotator=annotator, turn_number=1, chosen_position=1, explanation=REASON, layout="column", submission_id=key, now=NOW
            )

    def test_r5_sabotage_with_a_fresh_id_per_press_the_second_press_is_not_recognised(self, annotator):
        """The control: it is the submission id that makes a second press the same answer; without it, it is a stale form."""
        judge(annotator)
        with pytest.raises(StaleForm):
            submit_comparison(
                annotator=annotator,
                turn_number=1,
                chosen_position=0,
                explanation=REASON,
                layout="column",
                submission_id=uuid.uuid4(),
                now=NOW,
            )

    @pytest.mark.parametrize("position", [None, 4, 99])
    def test_a_choice_that_is_not_on_the_page_is_refused(self, annotator, position):
        with pytest.raises(MissingChoice):
            judge(annotator, position=position)
        assert not Comparison.objects.exists()

    def test_a_short_explanation_is_refused_with_its_figures(self, annotator):
        with pytest.raises(ExplanationTooShort) as caught:
            judge(annotator, explanation="too short")
        assert caught.value.extra == {"words": 2, "minimum": 3}
        assert not ComparisonItem.objects.exists()

    def test_a_locale_may_set_its_own_minimum(self, annotator):
        annotator.study_locale.explanation_min_words = 2
        annotator.study_locale.save()
        assert judge(annotator, explanation="just right").pk

    def test_a_giant_explanation_is_refused(self, annotator):
        with pytest.raises(MessageTooLong):
            judge(annotator, explanation="word " * 2000)

    def test_the_language_of_the_explanation_is_stored(self, annotator):
        comparison = judge(annotator, explanation="La réponse B est plus claire et plus honnête que les autres.")
        assert comparison.detected_language == "fr"

    def test_the_last_turn_ends_the_conversation(self, annotator):
        one_turn(annotator.study)
        judge(annotator)
        assignment = annotator.assignments.get()
        assert (assignment.state, assignment.slot.state) == ("COMPLETED", "FILLED")


class TestWritingOn:
    def test_a_message_asks_for_live_candidates_with_the_whole_conversation(self, annotator):
        comparison = judge(annotator, position=1)
        turn = write(annotator)
        chosen = comparison.items.get(rank=1).shown_candidate.text
        contents = [message["content"] for message in turn.candidate_set.messages]
        assert contents == [comparison.turn.message, chosen, "What would my grandmother say?"]
        assert (turn.state, turn.candidate_set.is_live, current_step(annotator).step) == ("GENERATING", True, Step.WAIT)

    def test_the_next_turn_opens_when_its_set_is_ready(self, annotator):
        judge(annotator)
        turn = write(annotator)
        make_ready(turn.candidate_set)
        assert current_step(annotator).step == Step.COMPARE
        assert judge(annotator).turn.number == 2

    def test_r5_a_replayed_message_is_one_turn(self, annotator):
        judge(annotator)
        key = uuid.uuid4()
        assert write(annotator, key=key) == write(annotator, key=key)
        with pytest.raises(SubmissionConflict):
            write(annotator, key=key, message="Something else")

    def test_an_empty_message_is_refused(self, annotator):
        judge(annotator)
        with pytest.raises(EmptyMessage):
            write(annotator, message=" \u0000\n ")

    def test_a_message_before_the_choice_is_stale(self, annotator):
        with pytest.raises(StaleForm):
            write(annotator)

    def test_own_first_message_opens_the_first_turn(self):
        annotator = admitted_annotator(seated_study(own_prompt_share=1))
        claim(annotator)
        assert current_step(annotator).step == Step.MESSAGE
        turn = write(annotator, turn_number=1, message="How do I learn to cook for my family?")
        assert (turn.number, turn.source, turn.detected_language) == (1, "ANNOTATOR", "en")


class TestEnding:
    def test_a_conversation_cannot_end_before_the_minimum(self, annotator):
        judge(annotator)
        with pytest.raises(TooFewTurns):
            end_conversation(annotator=annotator, turn_number=2, now=NOW)

    def test_at_the_minimum_it_ends_at_the_persons_wish(self, annotator):
        judge(annotator)
        make_ready(write(annotator).candidate_set)
        judge(annotator)
        end_conversation(annotator=annotator, turn_number=3, now=NOW)
        assert annotator.assignments.get().state == Assignment.State.COMPLETED

    def test_after_the_first_conversation_come_the_remaining_questions(self, annotator):
        one_turn(annotator.study)
        judge(annotator)
        assert current_step(annotator).step == Step.CONSENT


class TestFailure:
    def test_a_failed_set_leads_to_a_way_on(self, annotator):
        judge(annotator)
        fail(write(annotator))
        assert current_step(annotator).step == Step.TROUBLE

    def test_trying_again_waits_for_the_same_set(self, annotator):
        judge(annotator)
        turn = write(annotator)
        fail(turn)
        retry_turn(annotator=annotator)
        assert current_step(annotator).step == Step.WAIT
        turn.candidate_set.refresh_from_db()
        assert turn.candidate_set.failures == 0

    def test_giving_up_early_returns_the_slot_and_counts_for_the_person(self, annotator):
        judge(annotator)
        fail(write(annotator))
        give_up_turn(annotator=annotator, now=NOW)
        assignment = annotator.assignments.get()
        assert (assignment.state, assignment.slot.state) == ("RETURNED", "OPEN")
        assert current_step(annotator).step == Step.CONSENT

    def test_giving_up_after_the_minimum_is_a_valid_conversation(self, annotator):
        judge(annotator)
        make_ready(write(annotator).candidate_set)
        judge(annotator)
        fail(write(annotator, turn_number=3))
        give_up_turn(annotator=annotator, now=NOW)
        assert annotator.assignments.get().state == Assignment.State.COMPLETED


def test_a_person_who_has_ended_can_send_nothing(annotator):
    show_turn(turn=current_work(annotator).turn, device_class="", now=NOW)
    Annotator.objects.update(state=Annotator.State.WITHDRAWN, ended_at=NOW)
    with pytest.raises(StaleForm):
        submit_comparison(
            annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="", submission_id=uuid.uuid4(), now=NOW
        )
