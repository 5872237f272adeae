"""R8: fifty people for the places of one cell and of several, some of whom leave, while targets change."""

import contextlib
import time
import uuid
from collections import Counter
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from django.db import transaction
from django.db.models import QuerySet

from apps.annotation.services import hand_in_questionnaire
from apps.annotators.models import Annotator
from apps.quotas.errors import QuotaCellFull
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.services import complete_placements, expire_places, place_annotator, placing, release_placements, set_target
from apps.studies.models import Questionnaire, Study
from tests.annotation.fieldwork import NOW, seated_study
from tests.factories import AnnotatorFactory
from tests.quotas.sampling import person, quota

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
CROWD = 50
LATER = NOW + timedelta(hours=30)
ROUNDS = 50


def newcomers(study: Study, many: int, now: datetime = NOW) -> list[Annotator]:
    return [AnnotatorFactory(study=study, joined_at=now, active_at=now) for _ in range(many)]


def one_cell_study(target: int, **fields) -> tuple[Study, QuotaCell]:
    """A study that asks only the year of birth and the gender, with a cell for women."""
    study = seated_study(prompts=2, overlap=CROWD, conversations_per_annotator=1, **fields)
    Questionnaire.objects.filter(study_locale__study=study, stage="ELIGIBILITY").delete()
    quota(study, women=(target, {"gender": ["female"]}))
    return study, QuotaCell.objects.get()


def hand_in(annotator: Annotator, now: datetime = NOW) -> str:
    """Answer as a woman; the state that the person is in afterwards."""
    hand_in_questionnaire(
        annotator=annotator,
        questionnaire=annotator.study_locale.questionnaires.get(stage="BEFORE"),
        answers={"birth_year": ["1990"], "gender": ["woman"]},
        submission_id=uuid.uuid4(),
        now=now,
    )
    return Annotator.objects.values_list("state", flat=True).get(pk=annotator.pk)


def finish(annotator: Annotator, now: datetime) -> None:
    """What the end of the last conversation does about the places."""
    with transaction.atomic():
        Annotator.objects.select_for_update().get(pk=annotator.pk)
        complete_placements(annotator=annotator, now=now)


def held(cell: QuotaCell) -> int:
    return cell.placements.filter(is_over=False).exclude(state=Placement.State.RELEASED).count()


def rush(at_once, journal) -> tuple[Counter, int]:
    """Fifty people hand in at once for twenty places: the states that they end in, and how often a place was taken above the target."""
    study, cell = one_cell_study(20)
    people = newcomers(study, CROWD)
    results = at_once([lambda person=person: hand_in(person) for person in people])
    assert [result for result in results if isinstance(result, Exception)] == []
    assert held(cell) == results.count("ACTIVE")
    return Counter(results), len(journal.taken_above())


def test_r8_fifty_people_fill_a_cell_to_its_target(at_once, journal):
    assert rush(at_once, journal) == ({"ACTIVE": 20, "QUOTA_FULL": 30}, 0)


def unlocked(monkeypatch, seconds: float = 0.1) -> None:
    """Take the locks of cells and quotas away, and let time pass between counting and taking."""
    locking, counting = QuerySet.select_for_update, placing._free
    monkeypatch.setattr(
        QuerySet, "select_for_update", lambda self, **options: self if self.model in (Quota, QuotaCell) else locking(self, **options)
    )

    def count_slowly(*arguments):
        free = counting(*arguments)
        time.sleep(seconds)
        return free

    monkeypatch.setattr(placing, "_free", count_slowly)


def test_r8_sabotage_without_the_lock_fifty_people_overfill_the_cell(at_once, journal, monkeypatch):
    unlocked(monkeypatch)
    states, above = rush(at_once, journal)
    assert states["ACTIVE"] > 20
    assert above > 0


def fieldwork(at_once, journal, *, before_edit: float, is_swept: bool) -> None:
    """Twenty hold the places; six (30 %) fall silent, and a sweep may find that. Next day, all at once: the fourteen finish,
    newcomers press, the six come back late and finish, and the target goes down to sixteen.
    """
    study, cell = one_cell_study(20)
    first = newcomers(study, 20)
    for annotator in first:
        assert hand_in(annotator) == "ACTIVE"
    gone, stayed = first[:6], first[6:]
    Annotator.objects.filter(pk__in=[annotator.pk for annotator in stayed]).update(active_at=LATER)
    if is_swept:
        assert expire_places(study=study, now=LATER) == 6
    many = newcomers(study, 29, LATER)

    def come_back(annotator):
        time.sleep(0.4)  # newcomers have been faster
        finish(annotator, LATER)

    def lower():
        time.sleep(before_edit)
        row = QuotaCell.objects.get()
        set_target(cell=row, target=16, version=row.version, user=None, now=LATER)

    results = at_once(
        [
            *[lambda person=person: finish(person, LATER) for person in stayed],
            *[lambda person=person: come_back(person) for person in gone],
            lower,
            *[lambda person=person: hand_in(person, LATER) for person in many],
        ]
    )
    assert [result for result in results if isinstance(result, Exception)] == []
    admitted = results.count("ACTIVE")
    over = cell.placements.filter(is_over=True)
    assert journal.taken_above() == []
    # Nobody honest is thrown away: who finished is completed, in time or over.
    assert cell.placements.filter(annotator__in=first, state=Placement.State.COMPLETED).count() == 20
    assert not over.exclude(annotator__in=gone).exists()
    # Six places return, and more people want them than there are, so that all of them are taken up to the target.
    assert held(cell) == 20 - over.count() + admitted
    assert 16 <= held(cell) <= 20


@pytest.mark.parametrize(("before_edit", "is_swept"), [(0.0, False), (0.3, False), (0.3, True)])
def test_r8_a_lowered_target_late_finishers_and_newcomers_at_once(at_once, journal, before_edit, is_swept):
    fieldwork(at_once, journal, before_edit=before_edit, is_swept=is_swept)


def test_r8_sabotage_without_the_lock_newcomers_share_the_places_that_come_back(at_once, journal, monkeypatch):
    unlocked(monkeypatch)
    with pytest.raises(AssertionError):
        fieldwork(at_once, journal, before_edit=0.3, is_swept=True)


def late_finishers(at_once) -> tuple[int, int]:
    """Ten whose places had been given to ten others finish at the same moment while four places are free: completed and over."""
    study, cell = one_cell_study(10)
    first = newcomers(study, 10)
    for annotator in first:
        hand_in(annotator)
    for annotator in newcomers(study, 6, LATER):
        assert hand_in(annotator, LATER) == "ACTIVE"
    assert held(cell) == 6  # the first admission of the next day released all ten
    results = at_once([lambda person=person: finish(person, LATER) for person in first])
    assert [result for result in results if result is not None] == []
    done = cell.placements.filter(annotator__in=first, state=Placement.State.COMPLETED)
    return done.filter(is_over=False).count(), done.filter(is_over=True).count()


def test_r8_late_finishers_get_back_what_is_free_and_the_rest_is_kept_over(at_once):
    assert late_finishers(at_once) == (4, 6)


def test_r8_sabotage_without_the_lock_late_finishers_all_think_there_is_room(at_once, monkeypatch):
    unlocked(monkeypatch)
    assert late_finishers(at_once) != (4, 6)


# --- Several quotas at once ---

SEATS = [("woman", "18_34"), ("woman", "55_plus"), ("man", "18_34"), ("man", "55_plus")]


def several_quotas(many: int) -> tuple[Study, list[Annotator]]:
    """Age by gender, gender, and everybody, all hard; people of all four kinds."""
    study = seated_study(prompts=1)
    young, old = {"birth_year": ["18_34"]}, {"birth_year": ["55_plus"]}
    women, men = {"gender": ["female"]}, {"gender": ["male"]}
    # In an order in which the cells of a person lie far apart.
    quota(study, "gender", men=(many, men), women=(many // 4, women))
    quota(study, "everybody", all=(many // 2 + 1, {}))
    quota(study, "age_gender", a=(many, women | old), b=(many // 5, men | young), c=(many, women | young), d=(many, men | old))
    return study, [person(study, *SEATS[number % 4], active_at=NOW) for number in range(many)]


def take_and_give_back(at_once, people: list[Annotator], rounds: int, check) -> list:
    """Everybody tries for all their places at once, `check` looks at the result, everybody gives back; so many rounds."""
    pressing, looking = Barrier(len(people) + 1), Barrier(len(people) + 1)

    def press(annotator: Annotator) -> list:
        errors = []
        for _ in range(rounds):
            pressing.wait(60)
            try:
                with transaction.atomic():
                    place_annotator(annotator=annotator, now=NOW)
            except QuotaCellFull:
                pass
            except Exception as error:
                errors.append(error)
            looking.wait(60)
            pressing.wait(60)
            with transaction.atomic():
                release_placements(annotator=annotator, reason=Placement.ReleaseReason.TIMEOUT, now=NOW)
            looking.wait(60)
        return errors

    def look() -> list:
        problems = []
        for _ in range(rounds):
            pressing.wait(60)
            looking.wait(60)
            problems += check()
            pressing.wait(60)
            looking.wait(60)
        return problems

    results = at_once([look, *[lambda annotator=annotator: press(annotator) for annotator in people]])
    return [problem for result in results for problem in (result if isinstance(result, list) else [result])]


def wrong_places(people: list[Annotator]) -> list[str]:
    """All places or none, no cell above its target, and nobody refused who would fit."""
    held = Placement.objects.exclude(state=Placement.State.RELEASED)
    by_person = Counter(held.values_list("annotator", flat=True))
    by_cell = Counter(held.values_list("cell", flat=True))
    cells = {(cell.quota.key, cell.key): cell for cell in QuotaCell.objects.select_related("quota")}
    full = {key for key, cell in cells.items() if by_cell[cell.pk] >= cell.target}
    problems = [f"{key} has {by_cell[cell.pk]} of {cell.target}" for key, cell in cells.items() if by_cell[cell.pk] > cell.target]
    letters = dict(zip(SEATS, "cabd", strict=True))
    for number, annotator in enumerate(people):
        gender, age = SEATS[number % 4]
        wanted = {("gender", "women" if gender == "woman" else "men"), ("everybody", "all"), ("age_gender", letters[gender, age])}
        if by_person[annotator.pk] not in (0, 3):
            problems.append(f"{annotator} holds {by_person[annotator.pk]} of 3 places")
        elif not by_person[annotator.pk] and not wanted & full:
            problems.append(f"{annotator} was refused although all their cells have room")
    return problems


def test_r8_admission_in_several_quotas_takes_all_or_none_and_never_deadlocks(at_once):
    _, people = several_quotas(8)
    assert take_and_give_back(at_once, people, ROUNDS, lambda: wrong_places(people)) == []


@pytest.mark.nightly
def test_r8_a_thousand_rounds_of_admission_in_several_quotas_never_deadlock(at_once):
    _, people = several_quotas(20)
    assert take_and_give_back(at_once, people, 1000, lambda: wrong_places(people)) == []


def test_r8_fifty_people_at_once_in_several_quotas(at_once):
    _, people = several_quotas(CROWD)
    assert take_and_give_back(at_once, people, 1, lambda: wrong_places(people)) == []


def test_r8_sabotage_cells_locked_in_any_order_deadlock(at_once, monkeypatch):
    """The control: each person locks their cells one after the other in an order of their own."""
    _, people = several_quotas(6)

    def lock_in_own_order(seats):
        cells = sorted((cell for _, cell in seats if cell), reverse=bool(uuid.uuid4().int % 2))
        locked = []
        for pk in cells:
            locked.append(QuotaCell.objects.select_for_update(of=("self",)).get(pk=pk))
            time.sleep(0.05)
        return [], locked

    monkeypatch.setattr(placing, "_lock", lock_in_own_order)
    problems = take_and_give_back(at_once, people, 1, list)
    assert any("deadlock" in str(problem) for problem in problems), problems


def edit_and_admit(at_once) -> list:
    """Eight people are admitted while the targets of their cells are edited again and again; what failed."""
    _, people = several_quotas(8)
    cells = list(QuotaCell.objects.order_by("pk"))

    def edit(cell: QuotaCell) -> None:
        for target in range(5, 10):
            row = QuotaCell.objects.get(pk=cell.pk)
            set_target(cell=row, target=target, version=row.version, user=None, now=NOW)

    def press(annotator: Annotator) -> None:
        for _ in range(5):
            with contextlib.suppress(QuotaCellFull), transaction.atomic():
                place_annotator(annotator=annotator, now=NOW)
            with transaction.atomic():
                release_placements(annotator=annotator, reason=Placement.ReleaseReason.TIMEOUT, now=NOW)

    editors = [lambda cell=cell: edit(cell) for cell in cells]
    return [result for result in at_once([*editors, *[lambda person=person: press(person) for person in people]]) if result is not None]


def test_r23_edits_of_targets_and_admissions_wait_for_each_other_one_way_only(at_once):
    assert edit_and_admit(at_once) == []


def test_r23_sabotage_quotas_locked_with_their_keys_deadlock_with_admissions(at_once, monkeypatch):
    """The control: an admission's commit checks that its quotas exist, and would wait for an edit that waits for its cell."""
    locking = QuerySet.select_for_update
    with_keys = lambda self, **options: locking(self, **options | ({"no_key": False} if self.model is Quota else {}))  # noqa: E731
    monkeypatch.setattr(QuerySet, "select_for_update", with_keys)
    taking = placing._free
    monkeypatch.setattr(placing, "_free", lambda *arguments: (taking(*arguments), time.sleep(0.1))[0])
    assert any("deadlock" in str(error) for error in edit_and_admit(at_once))
