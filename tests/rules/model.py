"""The rules of the sample in small: who holds which seat and place, and what each step may lead to. No database, no service."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

OVERLAP, PROMPTS, SESSION, PER_DAY = 2, 3, 2, 2
LEASE, PLACE = timedelta(minutes=60), timedelta(hours=2)
TARGETS = {"women": 2, "men": 2, "english": 3, "everybody": 2}
QUOTA_OF = {"women": "gender", "men": "gender", "english": "english", "everybody": "everybody", "outside": "gender"}
SOFT = {"everybody"}
OUTSIDE_SHARE = 0.25
CELL_OF_GENDER = {"woman": "women", "man": "men"}


@dataclass
class Seat:
    prompt: int
    locale: str
    ordinal: int
    position: int
    state: str = "OPEN"
    token: int = 0
    lease: datetime | None = None
    is_excess: bool = False
    began: datetime | None = None

    @property
    def is_live(self) -> bool:
        return self.state != "RETIRED" and not self.is_excess

    def is_abandoned(self, now: datetime) -> bool:
        return self.state == "CLAIMED" and not self.is_excess and self.lease is not None and self.lease < now

    def leave(self, state: str) -> None:
        self.state = "RETIRED" if self.is_excess else state
        self.is_excess, self.lease = False, None


@dataclass
class Task:
    """A conversation with the seat it was begun on; people of a pilot have none. `turn` is the state of its last turn."""

    prompt: int
    seat: Seat | None
    token: int
    started: datetime
    lease: datetime
    state: str = "ACTIVE"
    turn: str = "READY"
    number: int = 1
    answers: int = 0
    has_ended: bool = False

    @property
    def is_running(self) -> bool:
        return not self.has_ended and self.state in ("ACTIVE", "EXPIRED")

    @property
    def owns_seat(self) -> bool:
        return self.seat is not None and self.seat.token == self.token and self.seat.state == "CLAIMED"


@dataclass
class Place:
    state: str = "RESERVED"
    reason: str = ""
    is_over: bool = False


@dataclass
class Person:
    locale: str
    is_live: bool
    identity: str | None
    active: datetime
    state: str = "ACTIVE"
    reason: str = ""
    is_eligible: bool = False
    has_answered: bool = False
    gender: str | None = None
    admitted: datetime | None = None
    has_read: bool = False
    practice_tries: int = 0
    has_practised: bool = False
    sensitive: str = ""  # granted, refused or answered
    tasks: list[Task] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def task(self) -> Task | None:
        return next((task for task in self.tasks if task.is_running), None)

    @property
    def finished(self) -> int:
        return sum(task.has_ended and task.state not in ("SKIPPED", "WITHDRAWN") for task in self.tasks)

    @property
    def step(self) -> str:
        if self.state != "ACTIVE":
            return "done" if self.state == "COMPLETED" else "ended"
        if not self.has_read:
            return "guideline" if self.is_eligible and self.has_answered else "questions"
        if not self.has_practised:
            return "practice"
        if self.task is not None:
            steps = {"ANSWERED": "message", "GENERATING": "wait", "BROKEN": "trouble"}
            return steps.get(self.task.turn, "compare")
        if self.finished and self.sensitive in ("", "granted"):
            return "questions" if self.sensitive else "consent"
        return "start"

    def end(self, state: str, reason: str = "") -> None:
        self.state, self.reason = state, reason


class Sample:
    """A study in two locales. Each method takes one step and returns the code with which it is refused, or None."""

    def __init__(self, seats: list[Seat], now: datetime) -> None:
        self.seats, self.now = seats, now
        self.overlap, self.targets = OVERLAP, dict(TARGETS)
        self.people: list[Person] = []

    # --- Joining and admission ---

    def known(self, identity: str | None) -> Person | None:
        return next((p for p in self.people if identity and p.identity == identity), None)

    def hand_in(self, person: Person, *, gender: str | None, was_asked_again: bool) -> str | None:
        if gender is None and person.is_live and not was_asked_again:
            return "answer_missing"
        refusal = self._admit(person, person.locale, gender) if person.is_live else None
        if refusal:
            person.end("QUOTA_FULL", refusal)
        else:
            person.has_answered, person.gender, person.admitted = True, gender, self.now
        return None

    def switch(self, person: Person, locale: str) -> str | None:
        """To another locale, before the first task."""
        if person.state != "ACTIVE" or person.tasks:
            return "stale_form"
        if person.admitted and person.is_live:
            refusal = self._admit(person, locale, person.gender)
            if refusal:
                return {"CELL_FULL": "quota_cell_full", "OUTSIDE_CELLS": "outside_cells_full"}.get(refusal, "admission_refused")
        person.locale = locale
        person.has_read, person.practice_tries, person.has_practised = False, 0, False
        return None

    def _admit(self, person: Person, locale: str, gender: str | None) -> str | None:
        """All places and work for a session, or a reason and no change."""
        wanted = [CELL_OF_GENDER.get(gender or "", "outside"), "everybody", *(["english"] if locale == "en" else [])]
        looked_at = {*wanted, *person.places} - SOFT
        idle = [p.places[cell] for p in self.people for cell in looked_at & p.places.keys() if p is not person and self._is_idle(p, cell)]
        missing = [cell for cell in wanted if cell not in person.places or person.places[cell].state == "RELEASED"]
        full = [cell for cell in missing if cell not in SOFT and self.limit(cell) - self.taken(cell, leaving=idle) < 1]
        if full:
            return "OUTSIDE_CELLS" if full == ["outside"] else "CELL_FULL"
        if not self._has_work(person, locale):
            return "NO_WORK"
        for place in idle:
            place.state, place.reason = "RELEASED", "TIMEOUT"
        for cell, place in person.places.items():
            if cell not in wanted and place.state == "RESERVED":
                place.state, place.reason = "RELEASED", "LOCALE_SWITCH"
        person.places |= {cell: Place() for cell in missing}
        return None

    def _is_idle(self, person: Person, cell: str) -> bool:
        return person.places[cell].state == "RESERVED" and person.active < self.now - PLACE

    def _has_work(self, newcomer: Person, locale: str) -> bool:
        """Seats that can be claimed cover what the people at work may still claim, and one more."""
        others = [p for p in self.people if p is not newcomer and p.is_live and p.admitted and p.state == "ACTIVE" and p.locale == locale]
        claimable = sum(SESSION - p.finished - (p.task is not None) for p in others if p.active >= self.now - PLACE)
        free = [seat for seat in self.seats if seat.locale == locale and (seat.state == "OPEN" or seat.is_abandoned(self.now))]
        return len(free) > claimable

    def limit(self, cell: str) -> int:
        if cell == "outside":
            return int(OUTSIDE_SHARE * (self.targets["women"] + self.targets["men"]))
        return self.targets[cell]

    def taken(self, cell: str, leaving: list[Place] | None = None) -> int:
        places = [p.places[cell] for p in self.people if cell in p.places]
        return sum(p.state != "RELEASED" and not p.is_over and all(p is not other for other in leaving or []) for p in places)

    def expire_places(self) -> int:
        idle = [p.places[cell] for p in self.people for cell in p.places if self._is_idle(p, cell)]
        for place in idle:
            place.state, place.reason = "RELEASED", "TIMEOUT"
        return len(idle)

    def _release(self, person: Person, reason: str) -> None:
        for place in person.places.values():
            if place.state != "RELEASED":
                place.state, place.reason, place.is_over = "RELEASED", reason, False

    # --- Work ---

    def refuses_claim(self, person: Person) -> str | None:
        if person.state != "ACTIVE":
            return "stale_form"
        if person.task is not None:
            return None
        if person.finished >= SESSION:
            return "no_work_available"
        if sum(task.started.date() == self.now.date() for task in person.tasks) >= PER_DAY:
            return "daily_limit_reached"
        return None if (self.may_get(person) if person.is_live else self.pilot_prompts(person)) else "no_work_available"

    def may_get(self, person: Person) -> list[Seat]:
        """The seats that may come next: the longest abandoned ones, else the first open one."""
        had = {task.prompt for task in person.tasks}
        seats = [seat for seat in self.seats if seat.locale == person.locale and seat.prompt not in had]
        abandoned = [(seat.lease, seat) for seat in seats if seat.is_abandoned(self.now)]
        if abandoned:
            longest = min(lease for lease, _ in abandoned if lease)
            return [seat for lease, seat in abandoned if lease == longest]
        return sorted((seat for seat in seats if seat.state == "OPEN"), key=lambda seat: seat.position)[:1]

    def pilot_prompts(self, person: Person) -> list[int]:
        had = {task.prompt for task in person.tasks}
        firsts = [seat for seat in self.seats if seat.locale == person.locale and seat.ordinal == 1 and seat.prompt not in had]
        return [seat.prompt for seat in sorted(firsts, key=lambda seat: seat.position)][:1]

    def claim(self, person: Person, prompt: int, seat: Seat | None) -> None:
        self._touch(person)
        if seat is not None:
            for other in (task for p in self.people for task in p.tasks):
                if other.seat is seat and other.owns_seat:
                    other.state = "EXPIRED"
            seat.token += 1
            seat.state, seat.lease, seat.began = "CLAIMED", self.now + LEASE, self.now
        token = seat.token if seat else 0
        person.tasks.append(Task(prompt, seat, token, started=self.now, lease=self.now + LEASE))

    def answer(self, person: Person) -> None:
        task = self._task(person)
        task.turn, task.answers = "ANSWERED", task.answers + 1
        if task.number == 2:
            self.end(person, "COMPLETED")
        else:
            self._renew(person, task)

    def write(self, person: Person) -> None:
        task = self._task(person)
        task.turn, task.number = "GENERATING", task.number + 1
        self._renew(person, task)

    def give_up(self, person: Person) -> None:
        task = self._task(person)
        task.turn = "FAILED"
        self.end(person, "COMPLETED" if task.answers else "RETURNED")

    def skip(self, person: Person) -> None:
        if person.task is not None:
            self._close(person.task, "SKIPPED")

    def end(self, person: Person, state: str) -> None:
        self._touch(person)
        self._close(self._task(person), state)
        self.finish(person)

    def finish(self, person: Person, *, no_more_work: bool = False) -> None:
        """The end of a participation: whoever had lost a place gets it back where it is free, and is over where it is not."""
        is_done = person.finished >= SESSION or (no_more_work and person.finished)
        if person.state != "ACTIVE" or not is_done or person.sensitive in ("", "granted"):
            return
        person.end("COMPLETED")
        late = [cell for cell, place in person.places.items() if place.reason in ("TIMEOUT", "RETURN")]
        for place in person.places.values():
            if place.state == "RESERVED":
                place.state = "COMPLETED"
        for cell in late:
            is_full = cell not in SOFT and self.taken(cell) >= self.limit(cell)
            person.places[cell] = Place("COMPLETED", is_over=is_full)

    def leave(self, person: Person, state: str, *, reason: str, released: str) -> None:
        """Sent back by the panel."""
        self._release(person, released)
        if person.task is not None:
            self._close(person.task, "RETURNED")
        person.end(state, reason)

    def withdraw(self, person: Person) -> None:
        if person.state == "WITHDRAWN":
            return
        for task in person.tasks:
            seat = task.seat
            if seat is not None and seat.token == task.token and task.state != "WITHDRAWN":
                if seat.state == "CLAIMED":
                    seat.leave("OPEN")
                elif seat.state == "FILLED":
                    live = sum(s.is_live for s in self.seats if (s.prompt, s.locale) == (seat.prompt, seat.locale))
                    seat.leave("RETIRED" if live > self.overlap else "OPEN")
            task.state, task.has_ended = "WITHDRAWN", True
        self._release(person, "WITHDRAWAL")
        person.state = "WITHDRAWN"

    def pay(self) -> None:
        """Everybody is paid; who has withdrawn is not known from then on."""
        for person in self.people:
            if person.state == "WITHDRAWN":
                person.identity = None

    def _task(self, person: Person) -> Task:
        assert person.task is not None
        return person.task

    def _touch(self, person: Person) -> None:
        if self.now - person.active >= timedelta(minutes=1):
            person.active = self.now

    def _renew(self, person: Person, task: Task) -> None:
        self._touch(person)
        lease = self.now + LEASE
        owns = task.seat is None or task.owns_seat
        if task.state == "ACTIVE" and owns and lease - task.lease >= timedelta(minutes=1):
            task.lease = lease
            if task.seat is not None:
                task.seat.lease = lease

    @staticmethod
    def _close(task: Task, state: str) -> None:
        owns = task.owns_seat
        counts = task.state == "ACTIVE" and (task.seat is None or (owns and not task.seat.is_excess))
        task.state = "SURPLUS" if state == "COMPLETED" and not counts else state
        task.has_ended = True
        if task.seat is not None and owns:
            task.seat.leave("FILLED" if task.state == "COMPLETED" else "OPEN")

    # --- The researcher ---

    def change_overlap(self, overlap: int) -> None:
        """Of each prompt keep the seats that are filled, then those at work in the order in which they began, then open ones."""
        self.overlap = overlap
        groups: dict[tuple[int, str], list[Seat]] = {}
        for seat in self.seats:
            groups.setdefault((seat.prompt, seat.locale), []).append(seat)
        for seats in groups.values():
            kinds = ["FILLED", "AT_WORK", "OPEN", "EXCESS", "RETIRED"]
            ranked = sorted(seats, key=lambda seat: (kinds.index(_kind(seat)), (seat.lease and seat.began) or self.now, seat.ordinal))
            for rank, seat in enumerate(ranked):
                kind = _kind(seat)
                if rank >= overlap and kind == "OPEN":
                    seat.state = "RETIRED"
                elif rank >= overlap and kind == "AT_WORK":
                    seat.is_excess = True
                elif rank < overlap and kind == "RETIRED":
                    seat.state = "OPEN"
                elif rank < overlap and kind == "EXCESS":
                    seat.is_excess = False


def _kind(seat: Seat) -> str:
    if seat.state == "CLAIMED":
        return "EXCESS" if seat.is_excess else "AT_WORK"
    return seat.state
