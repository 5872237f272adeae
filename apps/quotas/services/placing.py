"""Places in the quotas: all that a person needs, or none.

Whoever calls has locked the annotator. Here locks follow one order: the hard quotas that bound the people outside their
cells, in id order, then hard cells in id order, and only then placements. Nobody who holds one of these waits for an
annotator. Soft and monitoring cells refuse nobody, so they are never locked and people of one such cell do not queue.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum

from apps.annotators.models import Annotator
from apps.annotators.selectors import strata_of
from apps.quotas.errors import AnswerMissing, NoCellFits, OutsideCellsFull, QuotaCellFull
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.selectors import cells_that_fit, outside_limit
from apps.studies.models import Study

Seat = tuple[int, int | None]  # ids of quota and cell; None: outside its cells
LATE = (Placement.ReleaseReason.TIMEOUT, Placement.ReleaseReason.RETURN)


def place_annotator(*, annotator: Annotator, now: datetime, askable: Collection[str] = ()) -> None:
    """Reserve a place in every quota of the person's locale: in the cells they fall in, else outside the cells.

    1. Find the cells that fit, and the quotas of which none does.
    2. Lock the hard ones. Reservations there whose people have not been active for `place_hours` are released.
    3. Count. A hard cell that is full refuses, and so does a hard quota beyond its share outside the cells; soft and
       monitoring quotas take everybody.
    4. Insert one reserved placement per seat.

    `askable` names the questions that can be put to the person once more; where a hard quota wants that and they left
    one open, `AnswerMissing` is raised. People of pilot and preview links hold no places. Placing twice changes nothing.

    Raises `QuotaCellFull`, `OutsideCellsFull`, `NoCellFits`, `AnswerMissing`; then nothing has been written.
    """
    with transaction.atomic():
        _take_places(annotator=annotator, now=now, askable=askable)


def move_placements(*, annotator: Annotator, now: datetime) -> None:
    """Bring the person's places to the quotas of the locale they have changed to; what both locales share is kept.

    Raises what `place_annotator` raises; then nothing has been written.
    """
    with transaction.atomic():
        seats = _take_places(annotator=annotator, now=now, askable=())
        held = annotator.placements.filter(state=Placement.State.RESERVED)
        left = [placement.pk for placement in held if (placement.quota_id, placement.cell_id) not in seats]
        _release(held.filter(pk__in=left), Placement.ReleaseReason.LOCALE_SWITCH, now)


def complete_placements(*, annotator: Annotator, now: datetime) -> None:
    """Complete the person's places at the end of their work.

    Whose place had been released meanwhile completes normally where it is still free, and is flagged over where it has
    gone to somebody else.
    """
    with transaction.atomic():
        seats = _seats_of(annotator)
        if not seats:
            return
        quotas, cells = _lock(seats)
        annotator.placements.filter(state=Placement.State.RESERVED).update(state=Placement.State.COMPLETED, ended_at=now)
        late = list(annotator.placements.filter(state=Placement.State.RELEASED, release_reason__in=LATE))
        free = _free(quotas, cells) if late else {}
        for placement in late:
            placement.state, placement.release_reason, placement.ended_at = Placement.State.COMPLETED, "", now
            placement.is_over = free.get((placement.quota_id, placement.cell_id), 1) < 1
            placement.save(update_fields=["state", "release_reason", "ended_at", "is_over"])


def release_placements(*, annotator: Annotator, reason: str, now: datetime) -> None:
    """Give the person's places back, for one of `Placement.ReleaseReason`; also completed ones, when somebody withdraws late."""
    with transaction.atomic():
        _lock(_seats_of(annotator))
        _release(annotator.placements.exclude(state=Placement.State.RELEASED), reason, now)


def expire_places(*, study: Study, now: datetime) -> int:
    """Release the reservations of people who have not been active for `place_hours`. Returns how many.

    An admission does this for its own cells; the sweep keeps the board right where nobody asks for a place. People who
    are just then at work are passed over.
    """
    idle = _idle(study, now).filter(quota__study=study)
    released = 0
    for annotator_id in list(idle.order_by("annotator_id").values_list("annotator_id", flat=True).distinct()):
        with transaction.atomic():
            annotator = Annotator.objects.select_for_update(skip_locked=True).filter(pk=annotator_id).first()
            if annotator is not None:
                _lock(_seats_of(annotator))
                released += _release(idle.filter(annotator=annotator), Placement.ReleaseReason.TIMEOUT, now)
    return released


def _take_places(*, annotator: Annotator, now: datetime, askable: Collection[str]) -> set[Seat]:
    """Place the person; the seats that they hold afterwards."""
    if not annotator.recruitment_link.counts:
        return set()
    answers = strata_of(annotator)
    quotas = list(Quota.objects.filter(locales=annotator.study_locale_id).order_by("pk"))
    fitting = cells_that_fit(quotas, answers)
    inside = {quota for quota, _ in fitting}
    seats: set[Seat] = {*fitting, *((quota.pk, None) for quota in quotas if quota.pk not in inside)}
    for quota in quotas:
        if quota.kind == Quota.Kind.HARD and quota.pk not in inside:
            _check_outside(quota, answers, askable)
    had_places = _seats_of(annotator)
    locked_quotas, locked_cells = _lock(seats | had_places)
    idle = _idle(annotator.study, now).filter(_in(locked_quotas, locked_cells))
    _release(idle.exclude(annotator=annotator), Placement.ReleaseReason.TIMEOUT, now)
    known = {(p.quota_id, p.cell_id): p for p in annotator.placements.all()} if had_places else {}
    needed = {seat for seat in seats if seat not in known or known[seat].state == Placement.State.RELEASED}
    free = _free(locked_quotas, locked_cells)
    for cell in locked_cells:
        if (cell.quota_id, cell.pk) in needed and free[cell.quota_id, cell.pk] < 1:
            raise QuotaCellFull(cell=cell.key)
    for quota in locked_quotas:
        if (quota.pk, None) in needed and free[quota.pk, None] < 1:
            raise OutsideCellsFull(quota=quota.key)
    if known:
        again = annotator.placements.filter(pk__in=[known[seat].pk for seat in needed & known.keys()])
        again.update(state=Placement.State.RESERVED, release_reason="", reserved_at=now, ended_at=None)
    Placement.objects.bulk_create(
        Placement(annotator=annotator, quota_id=quota_id, cell_id=cell_id, reserved_at=now)
        for quota_id, cell_id in sorted(needed - known.keys(), key=lambda seat: (seat[0], seat[1] or 0))
    )
    return seats


def _check_outside(quota: Quota, answers: dict[str, set[str]], askable: Collection[str]) -> None:
    """What a hard quota says to somebody who fits none of its cells, before anything is counted."""
    if quota.no_cell == Quota.NoCell.REFUSE:
        raise NoCellFits(quota=quota.key)
    if quota.no_cell == Quota.NoCell.ASK and askable:
        questions = {question for strata in quota.cells.values_list("strata", flat=True) for question in strata}
        missing = sorted((questions & set(askable)) - answers.keys())
        if missing:
            raise AnswerMissing(questions=missing)


def _seats_of(annotator: Annotator) -> set[Seat]:
    return set(annotator.placements.values_list("quota_id", "cell_id"))


def _idle(study: Study, now: datetime) -> QuerySet[Placement]:
    deadline = now - timedelta(hours=study.place_hours)
    return Placement.objects.filter(state=Placement.State.RESERVED, annotator__active_at__lt=deadline)


def _lock(seats: Collection[Seat]) -> tuple[list[Quota], list[QuotaCell]]:
    """Lock what bounds these seats: hard quotas with a share outside the cells, then hard cells, each in id order.

    The keys stay unlocked: somebody else's placement that names the quota need not wait.
    """
    outside = [quota_id for quota_id, cell_id in seats if cell_id is None]
    inside = [cell_id for _, cell_id in seats if cell_id is not None]
    bounded = Quota.objects.select_for_update(no_key=True).filter(pk__in=outside, kind=Quota.Kind.HARD, outside_share__isnull=False)
    hard = QuotaCell.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=inside, quota__kind=Quota.Kind.HARD)
    return list(bounded.order_by("pk")) if outside else [], list(hard.order_by("pk")) if inside else []


def _in(quotas: Iterable[Quota], cells: Iterable[QuotaCell]) -> Q:
    """Placements in these cells, or outside the cells of these quotas."""
    here = Q(cell__in=[cell.pk for cell in cells])
    outside = [quota.pk for quota in quotas]
    return here | Q(cell__isnull=True, quota__in=outside) if outside else here


def _free(quotas: list[Quota], cells: list[QuotaCell]) -> dict[Seat, int]:
    """How many more people the locked cells take, and the locked quotas outside theirs."""
    if not quotas and not cells:
        return {}
    holding = Placement.objects.filter(_in(quotas, cells), is_over=False).exclude(state=Placement.State.RELEASED)
    counts = holding.order_by().values_list("quota_id", "cell_id").annotate(people=Count("pk"))
    taken = {(quota, cell): people for quota, cell, people in counts}
    free: dict[Seat, int] = {(cell.quota_id, cell.pk): cell.target - taken.get((cell.quota_id, cell.pk), 0) for cell in cells}
    for quota in quotas:
        limit = outside_limit(quota, quota.cells.aggregate(people=Sum("target"))["people"] or 0)
        free[quota.pk, None] = (limit or 0) - taken.get((quota.pk, None), 0)
    return free


def _release(placements: QuerySet[Placement], reason: str, now: datetime) -> int:
    return placements.update(state=Placement.State.RELEASED, release_reason=reason, is_over=False, ended_at=now)
