"""Random sequences of everything that people and researchers do, each step compared with the rules in small (`model.py`)."""

import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from apps.annotation.models import Assignment, Comparison, Conversation, Slot, Turn
from apps.annotation.selectors import current_step, current_work
from apps.annotation.services import (
    change_overlap,
    claim_next_assignment,
    end_conversation,
    give_up_turn,
    hand_in_questionnaire,
    participation,
    read_guideline,
    retry_turn,
    return_assignment,
    seating,
    show_turn,
    submit_comparison,
    submit_message,
    submit_practice,
    withdraw,
)
from apps.annotation.services.panel import apply_panel_status
from apps.annotation.services.participation import decide_sensitive_consent, finish_without_work, switch_locale
from apps.annotators.identities import OutsideIdentity
from apps.annotators.models import Annotator, PanelEvent
from apps.annotators.services import join_study, settle_payments
from apps.core.errors import DomainError
from apps.exports.selectors import START, current_watermark, feed
from apps.generation.models import CandidateSet
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.selectors import quota_board
from apps.quotas.services import expire_places, placing, set_target
from apps.studies.models import Study
from tests.annotation.fieldwork import NOW, REASON, make_ready, seated_study
from tests.factories import RecruitmentLinkFactory
from tests.quotas.sampling import MEN, WOMEN, quota
from tests.rules.model import OUTSIDE_SHARE, OVERLAP, PER_DAY, PROMPTS, QUOTA_OF, SESSION, TARGETS, Person, Place, Sample, Seat

pytestmark = pytest.mark.django_db
WHO = st.integers(0, 11)
LOCALES = st.sampled_from(["en", "en", "fr"])
IDENTITIES = st.sampled_from([None, "p1", "p2", "p3"])
GENDERS = st.sampled_from(["woman", "woman", "man", "prefer_not_to_say", None])
SEQUENCES, NIGHTLY_SEQUENCES = 100, 2000


def somebody_at(*steps: str):
    return precondition(lambda machine: any(person.step in steps for person in machine.sample.people))


class Stage:
    """The study that every sequence begins with; each sequence is rolled back."""

    def __init__(self) -> None:
        self.study = seated_study(
            prompts=PROMPTS,
            overlap=OVERLAP,
            conversations_per_annotator=SESSION,
            max_conversations_per_day=PER_DAY,
            place_hours=2,
            lease_minutes=60,
            prompts_per_wave=2,
        )
        self.study.task_design.min_turns, self.study.task_design.max_turns = 1, 2
        self.study.task_design.save()
        everybody = {"all": (TARGETS["everybody"], {})}
        gender = {"women": (TARGETS["women"], WOMEN), "men": (TARGETS["men"], MEN)}
        quotas = {
            "gender": quota(self.study, "gender", no_cell="ASK", outside_share=OUTSIDE_SHARE, **gender),
            "english": quota(self.study, "english", locales=self.study.locales.filter(language="en"), all=(TARGETS["english"], {})),
            "everybody": quota(self.study, "everybody", kind=Quota.Kind.SOFT, **everybody),
        }
        rows = QuotaCell.objects.select_related("quota")
        self.cells = {cell.key if cell.quota.key == "gender" else cell.quota.key: cell.pk for cell in rows}
        self.seat_of_cell = {(quotas[QUOTA_OF[key]].pk, self.cells.get(key)): key for key in QUOTA_OF}
        self.locales = {locale.language: locale for locale in self.study.locales.all()}
        self.panel = RecruitmentLinkFactory(study=self.study, kind="PANEL")
        self.direct = RecruitmentLinkFactory(study=self.study)
        self.pilot = RecruitmentLinkFactory(study=self.study, purpose="PILOT")


class Fieldwork(RuleBasedStateMachine):
    """One sequence. Every rule takes the step in the database and in the model; the invariants compare the two."""

    stage: Stage
    steps: Counter[str] = Counter()
    sequences = 0

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.rows: list[int] = []  # primary key by number of the person
        self.read: set[str] = set()
        self.cursor = START
        self.told: dict[str, Callable] = {}
        Fieldwork.sequences += 1
        locale_of = {locale.pk: language for language, locale in self.stage.locales.items()}
        self.seats: dict[int, Seat] = {}
        self._learn_seats(locale_of)
        self.sample = Sample(list(self.seats.values()), NOW)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    # --- Taking steps ---

    def _learn_seats(self, locale_of: dict[int, str]) -> None:
        for slot in Slot.objects.exclude(pk__in=self.seats).order_by("pk"):
            self.seats[slot.pk] = Seat(slot.prompt_id, locale_of[slot.study_locale_id], slot.ordinal, slot.queue_position)

    def attempt(self, step: str, service: Callable, **arguments):
        """Call a service; its result, or the code with which it refuses."""
        Fieldwork.steps[step] += 1
        try:
            return service(**arguments)
        except DomainError as error:
            return error.code

    def pick(self, who: int, *steps: str) -> tuple[Person, Annotator] | None:
        """One of the people at one of `steps`, any of them without."""
        numbers = [n for n, person in enumerate(self.sample.people) if not steps or person.step in steps]
        if not numbers:
            return None
        number = numbers[who % len(numbers)]
        row = Annotator.objects.select_related("study__task_design", "study_locale", "recruitment_link").get(pk=self.rows[number])
        return self.sample.people[number], row

    @property
    def now(self):
        return self.sample.now

    # --- The door ---

    def join(self, identity: str | None, locale: str, is_live: bool) -> int:
        """The number of the person: a new one, or who joined as this identity before."""
        link = self.stage.panel if identity else self.stage.direct if is_live else self.stage.pilot
        annotator = self.attempt(
            "join",
            join_study,
            link=link,
            study_locale=self.stage.locales[locale],
            agreed=True,
            submission_id=uuid.uuid4(),
            device_class="",
            now=self.now,
            identity=OutsideIdentity(kind="PANEL", participant=identity) if identity else None,
        )
        known = self.sample.known(identity)
        if known is not None:
            assert annotator.pk == self.rows[self.sample.people.index(known)], "one identity, two people"
            return self.sample.people.index(known)
        assert annotator.pk not in self.rows
        self.rows.append(annotator.pk)
        self.sample.people.append(Person(locale, is_live, identity, active=self.now))
        return len(self.rows) - 1

    def hand_in(self, person: Person, row: Annotator, stage: str, again: bool = False, **answers: str | None):
        given = {code: [value] for code, value in answers.items() if value}
        questionnaire = row.study_locale.questionnaires.get(stage=stage)
        return self.attempt(
            f"hand in {stage.lower()}",
            hand_in_questionnaire,
            annotator=row,
            questionnaire=questionnaire,
            answers=given,
            submission_id=uuid.uuid4(),
            now=self.now,
            was_asked_again=again,
        )

    @initialize(people=st.lists(st.tuples(LOCALES, GENDERS), min_size=1, max_size=4))
    def begin(self, people):
        for locale, gender in people:
            self.arrive(locale, gender, None, True)

    @precondition(lambda self: len(self.rows) < 10)
    @rule(
        locale=LOCALES,
        gender=GENDERS,
        identity=IDENTITIES,
        is_live=st.sampled_from([True, True, True, False]),
    )
    def arrive_and_begin(self, locale, gender, identity, is_live):
        self.arrive(locale, gender, identity, is_live)

    def arrive(self, locale, gender, identity, is_live):
        """Join and go as far as the first task, where the rules let the person."""
        number = self.join(identity, locale, is_live or bool(identity))
        for _ in range(6):
            self.go_on(number, gender)

    @precondition(lambda self: len(self.rows) < 10)
    @rule(locale=LOCALES, identity=IDENTITIES)
    def join_only(self, locale, identity):
        self.join(identity, locale, True)

    @somebody_at("questions", "guideline", "practice")
    @rule(who=WHO, gender=GENDERS)
    def go_on_at_the_door(self, who, gender):
        numbers = [n for n, person in enumerate(self.sample.people) if person.step in ("questions", "guideline", "practice")]
        if numbers:
            self.go_on(numbers[who % len(numbers)], gender)

    def go_on(self, number: int, gender: str | None) -> None:
        """The next page before the tasks, filled in."""
        person = self.sample.people[number]
        row = Annotator.objects.select_related("study__task_design", "study_locale", "recruitment_link").get(pk=self.rows[number])
        if person.step == "questions" and person.has_read:
            assert self.hand_in(person, row, "AFTER", politics="left") is None
            person.sensitive = "answered"
            self.sample.finish(person)
        elif person.step == "questions" and not person.is_eligible:
            assert self.hand_in(person, row, "ELIGIBILITY", adult="yes") is None
            person.is_eligible = True
        elif person.step == "questions":
            for was_asked_again in (False, True):
                code = self.hand_in(person, row, "BEFORE", was_asked_again, birth_year="1990", gender=gender)
                assert code == self.sample.hand_in(person, gender=gender, was_asked_again=was_asked_again)
                if code is None:
                    break
        elif person.step == "guideline":
            assert self.attempt("guideline", read_guideline, annotator=row, now=self.now) is None
            person.has_read = True
        elif person.step == "practice":
            person.practice_tries += 1
            person.has_practised = person.practice_tries == 2
            passed = self.attempt("practice", submit_practice, annotator=row, chose_better=False, now=self.now)
            assert passed == person.has_practised

    @somebody_at("questions")
    @rule(who=WHO)
    def turn_out_not_eligible(self, who):
        numbers = [n for n, person in enumerate(self.sample.people) if person.step == "questions" and not person.is_eligible]
        if numbers:
            person = self.sample.people[numbers[who % len(numbers)]]
            row = Annotator.objects.select_related("study_locale").get(pk=self.rows[numbers[who % len(numbers)]])
            assert self.hand_in(person, row, "ELIGIBILITY", adult="no") is None
            person.end("SCREENED_OUT", "NOT_ELIGIBLE")

    @precondition(lambda self: any(not person.tasks for person in self.sample.people))
    @rule(who=WHO, locale=st.sampled_from(["en", "fr"]))
    def read_on_in(self, who, locale):
        picked = self.pick(who)
        if picked and picked[0].locale != locale:
            person, row = picked
            code = self.attempt("switch locale", switch_locale, annotator=row, study_locale=self.stage.locales[locale], now=self.now)
            assert code == self.sample.switch(person, locale)

    # --- The task ---

    @somebody_at("start", "compare", "message", "wait")
    @rule(who=WHO)
    def claim(self, who):
        self.claim_for(self.pick(who, "start", "compare", "message", "wait"))

    @somebody_at("start")
    @rule(who=WHO)
    def claim_at_the_start(self, who):
        self.claim_for(self.pick(who, "start"))

    def claim_for(self, picked) -> None:
        if picked is None:
            return
        person, row = picked
        refusal, running, may_get = self.sample.refuses_claim(person), person.task, self.sample.may_get(person)
        result = self.attempt("claim", claim_next_assignment, annotator=row, submission_id=uuid.uuid4(), now=self.now)
        if refusal:
            assert result == refusal
            if refusal == "no_work_available":
                finish_without_work(annotator=row, now=self.now)
                self.sample.finish(person, no_more_work=True)
            return
        assert isinstance(result, Assignment), f"refused without reason: {result}"
        if running is not None:
            assert result.conversation == current_work(row).conversation, "a second task at once"
            return
        seat = self.seats[result.slot_id] if result.slot_id else None
        if person.is_live:
            assert seat in may_get, f"{seat} is not among {may_get}"
        else:
            assert (seat, [result.prompt_id]) == (None, self.sample.pilot_prompts(person))
        self.sample.claim(person, result.prompt_id, seat)

    def submit(self, row: Annotator, number: int, key: uuid.UUID, position: int = 0, explanation: str = REASON):
        return self.attempt(
            "submit",
            submit_comparison,
            annotator=row,
            turn_number=number,
            chosen_position=position,
            explanation=explanation,
            layout="",
            submission_id=key,
            now=self.now,
        )

    @somebody_at("compare")
    @rule(who=WHO, replays=st.sampled_from(["", "", "same", "other"]))
    def judge(self, who, replays):
        picked = self.pick(who, "compare")
        if picked:
            self.judge_for(picked, replays)

    def judge_for(self, picked: tuple[Person, Annotator], replays: str = "") -> None:
        person, row = picked
        number, key = person.task.number, uuid.uuid4()
        if person.task.turn == "READY":
            assert self.submit(row, number, key) == "stale_form", "judged before it was shown"
            self.show(person, row)
        first = self.submit(row, number, key)
        assert isinstance(first, Comparison), f"refused without reason: {first}"
        self.sample.answer(person)
        if replays == "same":
            assert self.submit(row, number, key) == first
        elif replays == "other":
            assert self.submit(row, number, key, position=1) == "submission_conflict"
        assert self.submit(row, number, uuid.uuid4()) == "stale_form"

    def show(self, person: Person, row: Annotator) -> None:
        assert self.attempt("show", show_turn, turn=current_work(row).turn, device_class="", now=self.now) != "stale_form"
        person.task.turn = "SHOWN"

    @somebody_at("start")
    @rule(who=WHO, ends=st.booleans())
    def work(self, who, ends):
        """From the claim to the end of a conversation, or to its first answer."""
        picked = self.pick(who, "start")
        self.claim_for(picked)
        if picked and picked[0].step == "compare":
            self.judge_for(picked)
        if picked and picked[0].step == "message" and ends:
            self.end_for(picked)
        if picked and picked[0].step == "consent":
            self.decide_for(picked, granted=not ends)

    @somebody_at("compare")
    @rule(who=WHO)
    def open_the_page(self, who):
        picked = self.pick(who, "compare")
        if picked:
            self.show(*picked)

    @precondition(lambda self: any(person.task and person.task.turn == "SHOWN" for person in self.sample.people))
    @rule(who=WHO)
    def judge_without_a_word(self, who):
        picked = self.pick(who, "compare")
        if picked and picked[0].task.turn == "SHOWN":
            assert self.submit(picked[1], picked[0].task.number, uuid.uuid4(), explanation="") == "explanation_too_short"

    @somebody_at("message")
    @rule(who=WHO)
    def end_the_conversation(self, who):
        picked = self.pick(who, "message")
        if picked:
            self.end_for(picked)

    def end_for(self, picked: tuple[Person, Annotator]) -> None:
        person, row = picked
        for number, refusal in ((person.task.number, "stale_form"), (person.task.number + 1, None)):
            assert self.attempt("end", end_conversation, annotator=row, turn_number=number, now=self.now) == refusal
        self.sample.end(person, "COMPLETED")

    @somebody_at("message")
    @rule(who=WHO, becomes=st.sampled_from(["nothing", "READY", "READY", "FAILED"]))
    def write_on(self, who, becomes):
        picked = self.pick(who, "message")
        if picked is None:
            return
        person, row = picked
        arguments = {"annotator": row, "turn_number": person.task.number + 1, "message": "And in winter?", "submission_id": uuid.uuid4()}
        turn = self.attempt("message", submit_message, **arguments, now=self.now)
        self.sample.write(person)
        assert self.attempt("message again", submit_message, **arguments, now=self.now) == turn
        self.settle_set(person, turn, becomes)

    @somebody_at("wait")
    @rule(who=WHO, becomes=st.sampled_from(["READY", "FAILED"]))
    def candidates_come_or_fail(self, who, becomes):
        picked = self.pick(who, "wait")
        if picked:
            self.settle_set(picked[0], current_work(picked[1]).turn, becomes)

    def settle_set(self, person: Person, turn: Turn, becomes: str) -> None:
        if becomes == "READY":
            make_ready(turn.candidate_set)
            person.task.turn = "READY"
        elif becomes == "FAILED":
            CandidateSet.objects.filter(pk=turn.candidate_set_id).update(state="FAILED", error_code="endpoint_timeout")
            person.task.turn = "BROKEN"

    @somebody_at("trouble")
    @rule(who=WHO, tries_again=st.booleans())
    def leave_the_trouble(self, who, tries_again):
        picked = self.pick(who, "trouble")
        if picked is None:
            return
        person, row = picked
        if tries_again:
            assert self.attempt("retry", retry_turn, annotator=row) is None
            person.task.turn = "GENERATING"
        else:
            assert self.attempt("give up", give_up_turn, annotator=row, now=self.now) is None
            self.sample.give_up(person)

    @somebody_at("compare", "message", "wait", "trouble")
    @rule(who=WHO)
    def skip(self, who):
        picked = self.pick(who, "compare", "message", "wait", "trouble")
        if picked:
            self.attempt("skip", return_assignment, annotator=picked[1], state="SKIPPED", reason="flagged", now=self.now)
            self.sample.skip(picked[0])

    @somebody_at("consent")
    @rule(who=WHO, granted=st.booleans())
    def decide_about_sensitive_questions(self, who, granted):
        picked = self.pick(who, "consent")
        if picked:
            self.decide_for(picked, granted)

    def decide_for(self, picked: tuple[Person, Annotator], granted: bool) -> None:
        person, row = picked
        code = self.attempt("consent", decide_sensitive_consent, annotator=row, purpose="SENSITIVE", granted=granted, now=self.now)
        assert code is None
        person.sensitive = "granted" if granted else "refused"
        self.sample.finish(person)

    @precondition(lambda self: any(p.step == "questions" and p.has_read for p in self.sample.people))
    @rule(who=WHO)
    def answer_sensitive_questions(self, who):
        numbers = [n for n, person in enumerate(self.sample.people) if person.step == "questions" and person.has_read]
        if numbers:
            self.go_on(numbers[who % len(numbers)], None)

    # --- Leaving ---

    @rule(who=WHO)
    def withdraw(self, who):
        picked = self.pick(who)
        if picked:
            assert self.attempt("withdraw", withdraw, annotator=picked[1], now=self.now) is None
            self.sample.withdraw(picked[0])

    @rule(identity=st.sampled_from(["p1", "p2", "p3"]), status=st.sampled_from(["RETURNED", "TIMED_OUT"]), event=st.integers(1, 4))
    def panel_tells(self, identity, status, event):
        """Under few ids, so that messages come twice, and with other contents."""
        link, key, told = self.stage.panel, f"e{event}", (identity, status)
        arguments = {"link": link, "event_id": key, "participant": identity, "status": PanelEvent.Status[status], "now": self.now}
        result = self.attempt("panel status", apply_panel_status, **arguments)
        if key in self.told:
            assert result == "event_conflict" if self.told[key] != told else result.event_id == key
            return
        self.told[key] = told
        person = self.sample.known(identity)
        has_effect = person is not None and person.state == "ACTIVE"
        assert result.had_effect == has_effect
        if has_effect:
            is_late = status == "TIMED_OUT"
            released = "TIMEOUT" if is_late else "RETURN"
            self.sample.leave(person, "RETURNED", reason=f"PANEL_{status}", released=released)

    # --- Time and the researchers ---

    @rule()
    def pay(self):
        self.attempt("pay", settle_payments, link=self.stage.panel, until=self.now)
        self.sample.pay()

    @rule(minutes=st.sampled_from([1, 30, 61, 61, 121, 12 * 60]))
    def time_passes(self, minutes):
        self.sample.now += timedelta(minutes=minutes)

    @rule()
    def sweep_places(self):
        assert self.attempt("sweep", expire_places, study=self.stage.study, now=self.now) == self.sample.expire_places()

    @rule(cell=st.sampled_from(sorted(TARGETS)), wanted=st.integers(0, 4), is_stale=st.sampled_from([False, False, True]))
    def edit_target(self, cell, wanted, is_stale):
        row = QuotaCell.objects.get(pk=self.stage.cells[cell])
        version = row.version - is_stale
        result = self.attempt("target", set_target, cell=row, target=wanted, version=version, user=None, now=self.now)
        if is_stale:
            assert result == "target_changed"
        else:
            self.sample.targets[cell] = wanted

    @rule(overlap=st.integers(1, 4))
    def edit_overlap(self, overlap):
        self.attempt("overlap", change_overlap, study=Study.objects.get(pk=self.stage.study.pk), overlap=overlap)
        self._learn_seats({locale.pk: language for language, locale in self.stage.locales.items()})
        self.sample.seats = list(self.seats.values())
        self.sample.change_overlap(overlap)

    @rule()
    def read_the_feed(self):
        """A reader who goes on from where they were knows, after each reading, what is published and nothing that is erased."""
        for entry in feed(self.stage.study, self.cursor, current_watermark(), 1000):
            (self.read.discard if entry.kind == "ERASED" else self.read.add)(entry.comparison_pseudonym)
            self.cursor = entry.position
        pks = [pk for pk, person in zip(self.rows, self.sample.people, strict=True) if person.is_live and person.state != "WITHDRAWN"]
        published = Comparison.objects.filter(turn__conversation__annotator__in=pks).count()
        # On PostgreSQL nothing of a transaction that is still open may be seen.
        assert len(self.read) == (published if connection.vendor == "sqlite" else 0)

    # --- What holds after every step ---

    @invariant()
    def the_database_agrees(self):
        self._compare_seats()
        self._compare_people()
        self._compare_tasks()
        self._compare_places()
        self._compare_board()
        self._compare_step(sum(self.steps.values()) % max(1, len(self.rows)))

    def _compare_step(self, number: int) -> None:
        """The page of one of the people: it takes many statements to tell."""
        if self.rows:
            row = Annotator.objects.select_related("study", "study_locale").get(pk=self.rows[number])
            assert current_step(row).step == self.sample.people[number].step, f"{self.sample.people[number]}"

    def _compare_seats(self) -> None:
        slots = Slot.objects.in_bulk(field_name="id")
        assert slots.keys() == self.seats.keys()
        for pk, seat in self.seats.items():
            stored = slots[pk]
            assert (stored.state, stored.fencing_token, stored.is_excess, stored.lease_expires_at) == (
                seat.state,
                seat.token,
                seat.is_excess,
                seat.lease,
            ), f"seat {seat}"
        live, filled = Counter(), Counter()
        for seat in self.seats.values():
            live[seat.prompt, seat.locale] += seat.is_live
            filled[seat.prompt, seat.locale] += seat.state == "FILLED"
        assert all(live[group] == max(self.sample.overlap, filled[group]) for group in live)

    def _compare_people(self) -> None:
        people = Annotator.objects.in_bulk(self.rows)
        for pk, person in zip(self.rows, self.sample.people, strict=True):
            row = people[pk]
            assert (row.state, row.end_reason, row.active_at, row.admitted_at) == (
                person.state,
                person.reason,
                person.active,
                person.admitted,
            ), f"{person}"

    def _compare_tasks(self) -> None:
        stored: dict[int, list] = {}
        rows = Conversation.objects.order_by("pk").values_list(
            "annotator_id", "assignment__prompt_id", "assignment__slot_id", "assignment__state", "assignment__fencing_token", "ended_at"
        )
        for annotator, prompt, slot, state, token, ended in rows:
            stored.setdefault(annotator, []).append((prompt, slot, state, token, ended is not None))
        pk_of = {id(seat): pk for pk, seat in self.seats.items()}
        for pk, person in zip(self.rows, self.sample.people, strict=True):
            tasks = [(task.prompt, pk_of.get(id(task.seat)), task.state, task.token, task.has_ended) for task in person.tasks]
            assert stored.get(pk, []) == tasks, f"{person}"

    def _compare_places(self) -> None:
        stored: dict[int, dict[str, Place]] = {}
        for row in Placement.objects.filter(annotator__in=self.rows):
            key = self.stage.seat_of_cell[row.quota_id, row.cell_id]
            stored.setdefault(row.annotator_id, {})[key] = Place(row.state, row.release_reason, row.is_over)
        for pk, person in zip(self.rows, self.sample.people, strict=True):
            assert stored.get(pk, {}) == person.places, f"{person}"

    def _compare_board(self) -> None:
        """What the board shows is what a recount gives."""
        for row in quota_board(self.stage.study):
            key = self.stage.seat_of_cell.get((row.quota_id, row.cell_id))
            if key is None:
                assert (row.reserved, row.completed, row.released) == (0, 0, 0)
                continue
            places = [person.places[key] for person in self.sample.people if key in person.places]
            states = Counter(place.state for place in places)
            over = sum(place.is_over for place in places)
            assert (row.reserved, row.completed, row.released, row.over) == (
                states["RESERVED"],
                states["COMPLETED"],
                states["RELEASED"],
                over,
            )
            assert row.taken == self.sample.taken(key)
            assert row.target == self.sample.limit(key)


def run(sequences: int, steps: int, **options) -> None:
    Fieldwork.stage, Fieldwork.sequences = Stage(), 0
    Fieldwork.steps.clear()
    options = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None} | options
    run_state_machine_as_test(Fieldwork, settings=settings(max_examples=sequences, stateful_step_count=steps, **options))
    print(f"{Fieldwork.sequences} sequences, steps: {dict(Fieldwork.steps.most_common())}")


def test_r20_the_rules_hold_after_every_step_of_random_sequences():
    run(SEQUENCES, 20)
    assert Fieldwork.sequences >= 100


@pytest.mark.nightly
def test_r20_the_rules_hold_in_thousands_of_longer_sequences():
    run(NIGHTLY_SEQUENCES, 40)
    assert Fieldwork.sequences >= NIGHTLY_SEQUENCES


def one_place_too_many(quotas, cells, counting=placing._free):
    return {seat: free + 1 for seat, free in counting(quotas, cells).items()}


@pytest.mark.parametrize(
    ("module", "guard", "without"),
    [
        (placing, "_free", one_place_too_many),
        (seating, "_fit", lambda slots, overlap: seating.Seating()),
        (participation, "release_placements", lambda **arguments: None),
    ],
)
def test_r20_sabotage_without_a_guard_the_rules_do_not_hold(monkeypatch, module, guard, without):
    monkeypatch.setattr(module, guard, without)
    with pytest.raises(AssertionError):
        run(SEQUENCES, 20, derandomize=True, phases=[Phase.generate])
