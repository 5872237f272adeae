"""How work is given out: each policy, what is mixed in, and what is stored about it."""

import uuid
from collections import Counter
from datetime import timedelta

import pytest

from apps.annotation.errors import NoWorkAvailable
from apps.annotation.models import Assignment, AssignmentPlan, Slot
from apps.annotation.policies import POLICIES, balanced_strata, fixed_set
from apps.annotation.selectors import current_work, finished_conversations
from apps.annotation.services import (
    claim_next_assignment,
    end_conversation,
    release_offers,
    return_assignment,
    seat_study,
    submit_comparison,
    touch_annotator,
    withdraw,
)
from apps.annotators.models import Annotator, RecruitmentLink
from apps.generation.models import CandidateSet
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.studies.models import Study, TaskDesign
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, make_ready, seated_study
from tests.factories import PromptFactory, RecruitmentLinkFactory

pytestmark = pytest.mark.django_db


def planned_study(*, plan: dict | None = None, max_turns: int = 1, **fields) -> Study:
    study = seated_study(**fields)
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=max_turns)
    AssignmentPlan.objects.create(study=study, **(plan or {}))
    return Study.objects.get(pk=study.pk)


def balanced_study(*, overlap: int = 4, max_share: str = "0.50", **fields) -> tuple[Study, dict[str, QuotaCell]]:
    study = planned_study(overlap=overlap, **fields)
    quota = Quota.objects.create(study=study, key="gender")
    quota.locales.set(study.locales.all())
    cells = {key: QuotaCell.objects.create(quota=quota, key=key, target=100) for key in ("women", "men")}
    AssignmentPlan.objects.filter(study=study).update(policy="balanced_strata", balance_quota=quota, max_stratum_share=max_share)
    return Study.objects.get(pk=study.pk), cells


def placed(study: Study, cell: QuotaCell | None) -> Annotator:
    annotator = admitted_annotator(study)
    if cell is not None:
        Placement.objects.create(annotator=annotator, quota=cell.quota, cell=cell, reserved_at=NOW)
    return annotator


def work_all(annotator: Annotator, now=NOW) -> list[Assignment]:
    """Claim and judge until nothing is left; the assignments in order."""
    done = []
    while True:
        try:
            done.append(claim(annotator, now=now))
        except NoWorkAvailable:
            return done
        judge(annotator, now=now)


# --- Policies ---------------------------------------------------------------------------------------------------------


def test_every_policy_is_found_by_its_key():
    assert set(POLICIES) == {"fill_to_overlap", "balanced_strata", "fixed_set"}
    assert all(policy.key == key and policy.label for key, policy in POLICIES.items())


def test_a_study_without_a_plan_fills_to_the_overlap():
    study = seated_study(prompts=3, overlap=2, prompts_per_wave=2)
    work = claim(admitted_annotator(study))
    assert (work.policy, work.seed, work.reason) == ("fill_to_overlap", 0, "wave 1, seat 1")


def test_the_reason_names_wave_and_seat_and_what_was_taken_over():
    study = seated_study(prompts=3, overlap=2, prompts_per_wave=1, lease_minutes=30)
    reasons = [claim(admitted_annotator(study)).reason for _ in range(3)]
    assert reasons == ["wave 1, seat 1", "wave 1, seat 2", "wave 2, seat 1"]
    assert claim(admitted_annotator(study), now=NOW + timedelta(minutes=31)).reason == "wave 1, seat 1, taken over"


@pytest.mark.parametrize("policy", ["fill_to_overlap", "fixed_set"])
@pytest.mark.parametrize(("prompts", "overlap", "people"), [(4, 3, 6), (5, 2, 5), (3, 4, 12)])
def test_r7_overlap_is_met_exactly_by_people_one_after_the_other(policy, prompts, overlap, people):
    each = prompts * overlap // people
    plan = {"policy": policy, "set_size": each}
    study = planned_study(prompts=prompts, overlap=overlap, conversations_per_annotator=each, plan=plan)
    for _ in range(people):
        assert len(work_all(admitted_annotator(study))) == each
    counted = Counter(Assignment.objects.counted().values_list("prompt", flat=True))
    assert set(counted.values()) == {overlap}
    assert len(counted) == prompts
    with pytest.raises(NoWorkAvailable):
        claim(admitted_annotator(study))


def test_no_stratum_takes_more_than_its_share_of_a_prompt():
    study, cells = balanced_study(prompts=3, overlap=4)
    for _ in range(3):
        work_all(placed(study, cells["women"]))
    for prompt in study.prompts.all():
        assert Assignment.objects.counted().filter(prompt=prompt).count() <= 2
    assert Slot.objects.filter(study_locale=study.locales.first(), state="OPEN").count() == 3 * 2
    with pytest.raises(NoWorkAvailable):
        claim(placed(study, cells["women"]))
    for _ in range(3):
        work_all(placed(study, cells["men"]))
    per_cell = Counter(
        (work.prompt_id, work.annotator.placements.get().cell_id) for work in Assignment.objects.counted().select_related("annotator")
    )
    assert set(per_cell.values()) == {2}
    assert len(per_cell) == 3 * 2


def test_people_outside_the_cells_are_a_stratum_without_limit():
    study, _ = balanced_study(prompts=1, overlap=3)
    works = [claim(placed(study, None)) for _ in range(3)]
    assert len({work.slot_id for work in works}) == 3


def test_a_stratum_of_a_tiny_overlap_may_still_take_one_seat():
    study, cells = balanced_study(prompts=1, overlap=1)
    assert claim(placed(study, cells["men"])).slot is not None
    plan = AssignmentPlan()
    assert [balanced_strata.most_of_one_stratum(overlap, plan) for overlap in (1, 2, 3, 9, 10)] == [1, 1, 1, 4, 5]


def test_an_abandoned_seat_of_a_full_stratum_goes_to_the_same_stratum():
    study, cells = balanced_study(prompts=1, overlap=2, lease_minutes=30)
    first = claim(placed(study, cells["men"]))
    with pytest.raises(NoWorkAvailable):
        claim(placed(study, cells["men"]))
    later = claim(placed(study, cells["men"]), now=NOW + timedelta(minutes=31))
    assert later.slot_id == first.slot_id


def test_a_withdrawal_makes_room_in_the_stratum():
    study, cells = balanced_study(prompts=1, overlap=2)
    leaving = placed(study, cells["men"])
    work_all(leaving)
    withdraw(annotator=leaving, now=NOW)
    assert claim(placed(study, cells["men"])).state == "ACTIVE"


def test_balance_counts_each_locale_on_its_own():
    study, cells = balanced_study(prompts=1, overlap=2)
    english, french = study.locales.order_by("pk")
    works = []
    for locale in (english, french):
        annotator = admitted_annotator(study, study_locale=locale)
        Placement.objects.create(annotator=annotator, quota=cells["men"].quota, cell=cells["men"], reserved_at=NOW)
        works.append(claim(annotator))
    assert len({work.slot.study_locale_id for work in works}) == 2


def set_study(*, set_size=3, **fields) -> Study:
    return planned_study(plan={"policy": "fixed_set", "set_size": set_size}, conversations_per_annotator=set_size, **fields)


def test_the_first_claim_reserves_the_whole_set():
    study = set_study(prompts=5, overlap=2)
    annotator = admitted_annotator(study)
    work = claim(annotator)
    assert annotator.assignments.offered().count() == 2
    assert Slot.objects.filter(state="CLAIMED").count() == 3
    assert len(set(annotator.assignments.values_list("prompt", flat=True))) == 3
    assert work.seed == annotator.assignments.offered()[0].seed != 0
    assert work.reason.startswith("item 1 of 3 drawn, wave ")


def test_the_set_is_served_in_the_order_of_the_draw():
    study = set_study(prompts=5, overlap=2)
    annotator = admitted_annotator(study)
    served = work_all(annotator)
    assert [work.pk for work in served] == sorted(work.pk for work in served)
    assert [work.reason.split(",")[0] for work in served] == [f"item {number} of 3 drawn" for number in (1, 2, 3)]
    annotator.refresh_from_db()
    assert annotator.state == "COMPLETED" or finished_conversations(annotator) == 3


def test_the_same_seed_draws_the_same_set():
    keys = []
    for _ in range(2):
        study = set_study(prompts=8, overlap=2, seed=5)
        names = list(study.prompts.order_by("pk").values_list("pk", flat=True))
        keys.append([names.index(work.prompt_id) for work in work_all(admitted_annotator(study, seed=99))])
    assert keys[0] == keys[1]


def test_a_replayed_claim_of_a_set_returns_the_same_item():
    annotator = admitted_annotator(set_study(prompts=5, overlap=2))
    key = uuid.uuid4()
    first = claim_next_assignment(annotator=annotator, submission_id=key, now=NOW)
    assert claim_next_assignment(annotator=annotator, submission_id=key, now=NOW) == first
    assert annotator.assignments.count() == 3


def test_reserved_items_whose_lease_ran_out_go_to_others_and_are_replaced():
    study = set_study(prompts=4, overlap=1, lease_minutes=30)
    first = admitted_annotator(study)
    claim(first)
    judge(first)
    late = NOW + timedelta(minutes=31)
    second = admitted_annotator(study)
    assert len(work_all(second, now=late)) == 3
    lost = first.assignments.filter(state="EXPIRED")
    assert lost.count() == 2
    with pytest.raises(NoWorkAvailable):
        claim(first, now=late)
    Study.objects.update(overlap=2)
    study.refresh_from_db()
    seat_study(study=study)
    again = claim(first, now=late)
    assert again.prompt_id not in lost.values_list("prompt_id", flat=True)


def test_reserved_items_keep_their_lease_while_the_person_is_active():
    study = set_study(prompts=4, overlap=1, lease_minutes=30)
    annotator = admitted_annotator(study, active_at=NOW - timedelta(hours=1))
    claim(annotator)
    later = NOW + timedelta(minutes=20)
    annotator.refresh_from_db()
    touch_annotator(annotator=annotator, now=later)
    assert annotator.active_at == later
    offers = annotator.assignments.offered().select_related("slot")
    assert (
        {offer.lease_expires_at for offer in offers} == {offer.slot.lease_expires_at for offer in offers} == {later + timedelta(minutes=30)}
    )


def test_activity_is_noted_at_most_once_a_minute(django_assert_num_queries):
    annotator = admitted_annotator(seated_study(prompts=1), active_at=NOW)
    with django_assert_num_queries(0):
        touch_annotator(annotator=annotator, now=NOW + timedelta(seconds=59))
    touch_annotator(annotator=annotator, now=NOW + timedelta(seconds=60))
    annotator.refresh_from_db()
    assert annotator.active_at == NOW + timedelta(seconds=60)


@pytest.mark.parametrize("leave", ["withdraw", "release", "return"])
def test_reserved_items_go_back_when_the_person_leaves(leave):
    study = set_study(prompts=4, overlap=1)
    annotator = admitted_annotator(study)
    claim(annotator)
    if leave == "withdraw":
        withdraw(annotator=annotator, now=NOW)
    elif leave == "return":
        return_assignment(annotator=annotator, state="RETURNED", reason="panel returned", now=NOW)
    else:
        assert release_offers(annotator=annotator, now=NOW) == 2
    claimed = Slot.objects.filter(state="CLAIMED").count()
    assert claimed == (1 if leave == "release" else 0)
    assert not annotator.assignments.offered().exists()


def test_completing_the_session_gives_reserved_items_back():
    study = set_study(prompts=4, overlap=1, set_size=3)
    Study.objects.filter(pk=study.pk).update(conversations_per_annotator=1)
    annotator = admitted_annotator(study)
    study.locales.get(language="en").questionnaires.filter(stage="AFTER").delete()
    claim(annotator)
    judge(annotator)
    annotator.refresh_from_db()
    assert annotator.state == "COMPLETED"
    assert Slot.objects.filter(state="CLAIMED").count() == 0


def test_a_skipped_item_of_a_set_is_replaced():
    study = set_study(prompts=5, overlap=1)
    annotator = admitted_annotator(study)
    skipped = claim(annotator)
    return_assignment(annotator=annotator, state="SKIPPED", reason="skip", now=NOW)
    served = work_all(annotator)
    assert len(served) == 3
    assert skipped.prompt_id not in {work.prompt_id for work in served}


def test_a_reserved_item_whose_candidates_are_rejected_waits_for_the_others():
    study = set_study(prompts=3, overlap=1)
    annotator = admitted_annotator(study)
    claim(annotator)
    offers = list(annotator.assignments.offered())
    CandidateSet.objects.filter(pk=offers[0].slot.candidate_set_id).update(state="PENDING")
    judge(annotator)
    assert claim(annotator).pk == offers[1].pk


def test_sets_stay_even_so_that_the_last_person_finds_a_whole_one():
    study = set_study(prompts=6, overlap=5, set_size=3)
    assert [len(work_all(admitted_annotator(study))) for _ in range(10)] == [3] * 10


def test_sets_sabotage_drawing_without_looking_at_free_seats_leaves_people_short(monkeypatch):
    """The control: were prompts drawn at random, some would fill early and the last people would find too few."""

    def at_random(free, seed):
        prompts = sorted(set(free.values_list("prompt", flat=True)))
        for prompt in fixed_set.shuffled(prompts, seed):
            yield free.filter(prompt=prompt).first()

    monkeypatch.setattr(fixed_set, "_lock_least_filled", at_random)
    study = set_study(prompts=6, overlap=5, set_size=3)
    assert [len(work_all(admitted_annotator(study))) for _ in range(10)] != [3] * 10


# --- Mixed in ---------------------------------------------------------------------------------------------------------


def gold_study(*, share: str, golds: int = 3, **fields) -> Study:
    study = planned_study(plan={"gold_share": share}, **fields)
    PromptFactory.create_batch(golds, study=study, is_gold=True)
    seat_study(study=study)
    for candidate_set in CandidateSet.objects.filter(state=CandidateSet.State.PENDING):
        make_ready(candidate_set)
    return study


def test_gold_items_are_not_seated_and_end_after_one_turn():
    study = gold_study(share="1.00", prompts=2, max_turns=4)
    assert not Slot.objects.filter(prompt__is_gold=True).exists()
    annotator = admitted_annotator(study)
    golds = []
    for _ in range(3):
        work = claim(annotator)
        assert (work.purpose, work.slot, work.policy) == ("GOLD", None, "gold")
        golds.append(work.prompt_id)
        judge(annotator)
        work.refresh_from_db()
        assert (work.state, current_work(annotator)) == ("COMPLETED", None)
    assert len(set(golds)) == 3
    assert finished_conversations(annotator) == 0
    assert claim(annotator).purpose == "MAIN"


def test_a_gold_item_without_ready_candidates_is_not_served():
    study = gold_study(share="1.00", prompts=1)
    CandidateSet.objects.filter(slots__isnull=True).update(state="FAILED")
    assert claim(admitted_annotator(study)).purpose == "MAIN"


def test_a_prompt_that_becomes_gold_loses_its_open_seats():
    study = seated_study(prompts=2, overlap=2)
    prompt = study.prompts.first()
    prompt.is_gold = True
    prompt.save()
    assert seat_study(study=study).retired == 4
    assert not prompt.slots.exclude(state="RETIRED").exists()


def repeating(annotator: Annotator) -> None:
    AssignmentPlan.objects.filter(study=annotator.study).update(repeat_share="1.00")


def repeat_study(**plan) -> Study:
    defaults = {"repeat_share": 0, "repeat_after_tasks": 2, "repeat_after_hours": 24}
    return planned_study(plan=defaults | plan, prompts=6, max_turns=4, conversations_per_annotator=20)


def one_turn_each(annotator: Annotator, count: int, now=NOW) -> list[Assignment]:
    TaskDesign.objects.filter(study=annotator.study).update(max_turns=1)
    works = []
    for _ in range(count):
        works.append(claim(annotator, now=now))
        judge(annotator, now=now)
    TaskDesign.objects.filter(study=annotator.study).update(max_turns=4)
    return works


def test_an_item_is_repeated_after_enough_tasks_with_the_same_candidates():
    annotator = admitted_annotator(repeat_study())
    first, *_ = one_turn_each(annotator, 3)
    repeating(annotator)
    again = claim(annotator, now=NOW + timedelta(minutes=5))
    assert (again.purpose, again.repeats_id, again.slot, again.policy) == ("REPEAT", first.pk, None, "repeat")
    assert again.reason == f"repeats assignment {first.pk}, 2 tasks between"
    turns = [work.conversation.turns.get() for work in (first, again)]
    assert turns[0].candidate_set_id == turns[1].candidate_set_id
    assert turns[0].message == turns[1].message
    assert turns[0].display_seed != turns[1].display_seed
    judge(annotator)
    assert current_work(annotator) is None
    assert finished_conversations(annotator) == 3


def test_an_item_too_recent_in_tasks_is_repeated_once_the_hours_are_over():
    annotator = admitted_annotator(repeat_study(repeat_after_tasks=10, repeat_after_hours=1))
    one_turn_each(annotator, 2)
    repeating(annotator)
    soon = claim(annotator, now=NOW + timedelta(minutes=59))
    assert soon.purpose == "MAIN"
    return_assignment(annotator=annotator, state="SKIPPED", reason="", now=NOW)
    assert claim(annotator, now=NOW + timedelta(minutes=60)).purpose == "REPEAT"


def test_an_item_is_never_repeated_twice():
    annotator = admitted_annotator(repeat_study(repeat_after_tasks=0))
    one_turn_each(annotator, 2)
    repeating(annotator)
    repeated = []
    for _ in range(2):
        work = claim(annotator)
        repeated.append(work.repeats_id)
        judge(annotator)
    assert len(set(repeated)) == 2
    assert claim(annotator).purpose == "MAIN"


def test_repetitions_and_gold_items_do_not_count_towards_the_overlap():
    annotator = admitted_annotator(repeat_study(repeat_after_tasks=0))
    one_turn_each(annotator, 1)
    repeating(annotator)
    claim(annotator)
    judge(annotator)
    assert Assignment.objects.filter(state="COMPLETED").count() == 2
    assert Assignment.objects.counted().count() == 1
    assert Slot.objects.filter(state="FILLED").count() == 1


def test_the_rates_of_what_is_mixed_in_are_kept():
    """400 tasks at a gold rate of 10 %: 40 are expected, and 24 to 58 lie within three standard deviations."""
    from apps.annotation.services.mixing import draw_extra

    study = gold_study(share="0.10", prompts=1, golds=1)
    annotator = admitted_annotator(study, seed=3)
    plan = study.assignment_plan
    drawn = [draw_extra(annotator=annotator, plan=plan, ordinal=ordinal, now=NOW) for ordinal in range(1, 401)]
    assert 24 <= sum(extra is not None for extra in drawn) <= 58
    assert drawn == [draw_extra(annotator=annotator, plan=plan, ordinal=ordinal, now=NOW) for ordinal in range(1, 401)]


def test_one_turn_items_refuse_a_second_message():
    study = gold_study(share="1.00", prompts=1, max_turns=4)
    annotator = admitted_annotator(study)
    claim(annotator)
    judge(annotator)
    assert current_work(annotator) is None


# --- Pilots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", [RecruitmentLink.Purpose.PILOT, RecruitmentLink.Purpose.PREVIEW])
def test_pilots_get_prompts_in_queue_order_and_take_no_seat(purpose):
    study = planned_study(
        prompts=3, overlap=1, prompts_per_wave=2, conversations_per_annotator=3, plan={"policy": "fixed_set", "set_size": 2}
    )
    annotator = admitted_annotator(study, recruitment_link=RecruitmentLinkFactory(study=study, purpose=purpose))
    served = work_all(annotator)
    slots = Slot.objects.filter(study_locale=annotator.study_locale).order_by("queue_position")
    assert [work.prompt_id for work in served] == [slot.prompt_id for slot in slots]
    assert {(work.purpose, work.policy, work.slot_id) for work in served} == {("PILOT", "pilot", None)}
    assert [work.reason for work in served] == ["pilot, wave 1", "pilot, wave 1", "pilot, wave 2"]
    assert set(slots.values_list("state", flat=True)) == {"OPEN"}
    assert Assignment.objects.counted().count() == 0
    assert finished_conversations(annotator) == 3


def test_pilots_find_prompts_although_every_seat_is_taken():
    study = planned_study(prompts=1, overlap=1)
    work_all(admitted_annotator(study))
    pilot = admitted_annotator(study, recruitment_link=RecruitmentLinkFactory(study=study, purpose="PILOT"))
    assert claim(pilot).purpose == "PILOT"


# --- Giving back ------------------------------------------------------------------------------------------------------


def test_a_skipped_task_reopens_its_slot_and_keeps_what_was_answered():
    study = planned_study(prompts=2, overlap=1, max_turns=4)
    annotator = admitted_annotator(study)
    work = claim(annotator)
    judge(annotator)
    returned = return_assignment(annotator=annotator, state="SKIPPED", reason="skipped by the person", now=NOW)
    assert returned == work
    work.refresh_from_db()
    assert (work.state, work.slot.state, work.ended_at) == ("SKIPPED", "OPEN", NOW)
    assert work.reason == "wave 1, seat 1; skipped by the person"
    assert work.conversation.ended_at == NOW
    assert work.conversation.turns.get().comparisons.get().explanation == REASON
    assert Assignment.objects.counted().count() == 0
    assert finished_conversations(annotator) == 0
    assert claim(annotator).prompt_id != work.prompt_id


def test_giving_back_without_running_work_does_nothing():
    annotator = admitted_annotator(planned_study(prompts=1))
    assert return_assignment(annotator=annotator, state="RETURNED", reason="panel", now=NOW) is None


def test_r9_a_late_return_leaves_the_slot_to_its_successor():
    study = planned_study(prompts=1, overlap=1, lease_minutes=30)
    late, successor = admitted_annotator(study), admitted_annotator(study)
    claim(late)
    taken = claim(successor, now=NOW + timedelta(minutes=31))
    return_assignment(annotator=late, state="RETURNED", reason="panel", now=NOW + timedelta(minutes=32))
    taken.slot.refresh_from_db()
    assert taken.slot.state == "CLAIMED"
    judge(successor, now=NOW + timedelta(minutes=33))
    taken.refresh_from_db()
    assert taken.state == "COMPLETED"


@pytest.mark.parametrize("with_successor", [False, True])
def test_r9_the_text_of_a_late_conversation_is_never_lost(with_successor):
    study = planned_study(prompts=1, overlap=1, lease_minutes=30, max_turns=2)
    late = admitted_annotator(study)
    work = claim(late)
    judge(late)
    if with_successor:
        claim(admitted_annotator(study), now=NOW + timedelta(minutes=31))
    end_conversation(annotator=late, turn_number=2, now=NOW + timedelta(minutes=40))
    work.refresh_from_db()
    assert work.state == ("SURPLUS" if with_successor else "COMPLETED")
    assert work.conversation.turns.get().comparisons.get().explanation == REASON


def test_a_repeated_form_of_a_task_that_has_ended_gets_its_first_receipt():
    study = planned_study(prompts=1, overlap=1)
    annotator = admitted_annotator(study)
    claim(annotator)
    key = uuid.uuid4()
    first = judge(annotator, submission_id=key)
    again = submit_comparison(
        annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="column", submission_id=key, now=NOW
    )
    assert again == first
