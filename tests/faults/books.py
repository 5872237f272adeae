"""Keeps the books of a fault run, in a process of its own on the database that gets killed: `python -m tests.faults.books`.

Reads one JSON object per line and answers each with one. `make` lays out a study and its people; `check` compares the ledgers with the
database, with what the export API sends and with the quota board, and names every state that cannot be; `waiting` names the live turns
without candidates, and `sweep` hands out lost work.
"""

# ruff: noqa: E402  (Django is set up before its models are imported)
import hashlib
import json
import os
import sys
import time
import urllib.request
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

import django

django.setup()

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from apps.annotation.middleware import SESSION_ANNOTATOR, SESSION_LANGUAGE
from apps.annotation.models import Assignment, Comparison, Conversation, Slot, Turn
from apps.annotation.services import seat_study
from apps.annotators.models import Annotator
from apps.content.models import Prompt
from apps.core.text import fingerprint
from apps.generation.models import Candidate, CandidateSet, ModelSpec
from apps.generation.services import sweep
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.selectors import quota_board
from apps.studies.models import ApiToken, Questionnaire, Study, StudyMembership
from tests.factories import AnnotatorFactory, StudyFactory, UserFactory

OVERLAP = 3


def make(*, people: int, prompts: int, conversations: int, turns: int, men: int) -> dict[str, Any]:
    """An open study in one locale with ready candidates, and people who have consented. Every second turn is live."""
    study = StudyFactory(overlap=OVERLAP, conversations_per_annotator=conversations, min_conversations=1, own_prompt_share=0)
    study.locales.exclude(language="en").delete()
    Questionnaire.objects.filter(stage=Questionnaire.Stage.AFTER).delete()
    study.task_design.min_turns = study.task_design.max_turns = turns
    study.task_design.save()
    ModelSpec.objects.update(timeout_seconds=60)
    Prompt.objects.bulk_create(Prompt(study=study, key=f"p{n}", text_en=f"How should I spend free day number {n}?") for n in range(prompts))
    seat_study(study=study)
    candidates = []
    for pk, k in CandidateSet.objects.filter(recipe__study=study).values_list("pk", "k"):
        for slot in range(k):
            text = f"Answer {slot} to set {pk}."
            candidates.append(Candidate(candidate_set_id=pk, slot=slot, text=text, text_fingerprint=fingerprint(text), source="default"))
    Candidate.objects.bulk_create(candidates, batch_size=5000)
    CandidateSet.objects.update(state=CandidateSet.State.READY, ready_at=timezone.now())
    quota = Quota.objects.create(study=study, key="gender", kind=Quota.Kind.HARD)
    quota.locales.set(study.locales.all())
    for code, target in (("woman", people), ("man", men)):
        QuotaCell.objects.create(quota=quota, key=code, strata={"gender": [code]}, target=target)
    membership = StudyMembership.objects.create(study=study, user=UserFactory(), role=StudyMembership.Role.RESEARCHER)
    sessions = []
    for _ in range(people):
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session[SESSION_ANNOTATOR], session[SESSION_LANGUAGE] = AnnotatorFactory(study=study).pk, "en"
        session.create()
        sessions.append(session.session_key)
    return {"token": ApiToken.issue(membership=membership, name="books")[1], "sessions": sessions}


def check(*, ledgers: str, port: int, token: str) -> dict[str, Any]:
    """What is wrong, in sentences; nothing is wrong in an empty list. May run while people work."""
    sent, saved = read_ledgers(Path(ledgers))
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        stored = stored_forms()
        problems = [*impossible_states(), *wrong_counts(Study.objects.get())]
    problems += [f"acknowledged, but not stored: {kind} {key}" for key, kind in saved.items() if key not in stored]
    for key, found in stored.items():
        if key not in sent:  # written after the ledgers were read
            sent, _ = read_ledgers(Path(ledgers))
        if key not in sent:
            problems.append(f"stored, but never sent: {key}")
        elif found != sent[key]:
            problems.append(f"stored otherwise than sent: {key}")
    problems += missing_in_export({key for key, kind in saved.items() if kind == "comparison"} & stored.keys(), port, token)
    twice = Comparison.objects.exclude(explanation="").values("explanation").annotate(n=Count("pk")).filter(n__gt=1).count()
    if twice:
        problems.append(f"stored twice: {twice} comparisons")
    return {"problems": problems, "saved": len(saved), "stored": len(stored), "twice": twice}


Form = tuple[str, str]  # kind and hash of the payload


def read_ledgers(folder: Path) -> tuple[dict[str, Form], dict[str, str]]:
    """What was sent by key, and the kinds of what was acknowledged. A line that is being written is left for the next time."""
    sent: dict[str, Form] = {}
    saved: dict[str, str] = {}
    for file in folder.glob("*.jsonl"):
        for line in file.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            entry = json.loads(line)
            if "sent" in entry:
                sent[entry["sent"]] = (entry["kind"], entry["payload"])
            else:
                saved[entry["saved"]] = sent[entry["saved"]][0]
    return sent, saved


def stored_forms() -> dict[str, Form]:
    forms = {str(key): ("claim", digest("")) for key in Assignment.objects.values_list("submission_id", flat=True)}
    chosen = Comparison.objects.filter(items__rank=1)
    columns = ("submission_id", "turn__number", "items__shown_candidate__position", "explanation")
    for key, turn, position, explanation in chosen.values_list(*columns):
        forms[str(key)] = ("comparison", digest(f"{turn}|{position}|{explanation}"))
    for key, turn, message in Turn.objects.exclude(submission_id=None).values_list("submission_id", "number", "message"):
        forms[str(key)] = ("message", digest(f"{turn}|{message}"))
    return forms


def digest(payload: str) -> str:
    return hashlib.sha256(payload.encode()).hexdigest()


def impossible_states() -> list[str]:
    """Rows that no order of whole steps leads to."""
    states, held = Assignment.State, Q(assignments__state__in=["OFFERED", "ACTIVE"], assignments__fencing_token=F("fencing_token"))
    holders = Slot.objects.annotate(holders=Count("assignments", filter=held))
    filled = Q(assignments__state="COMPLETED", assignments__fencing_token=F("fencing_token"))
    actives = Annotator.objects.annotate(n=Count("assignments", filter=Q(assignments__state="ACTIVE")))
    turns = Turn.objects.annotate(current=Count("comparisons", filter=Q(comparisons__is_current=True)))
    shown = Turn.objects.annotate(shown=Count("shown_candidates"))
    judged = Comparison.objects.annotate(
        judged=Count("items", distinct=True),
        best=Count("items", filter=Q(items__rank=1), distinct=True),
        told=Count("changes", distinct=True),
    )
    ended = [states.COMPLETED, states.RETURNED, states.SKIPPED, states.SURPLUS, states.WITHDRAWN]
    found = {
        "slot claimed by nobody": holders.filter(state="CLAIMED").exclude(holders=1),
        "slot held and not claimed": holders.exclude(state="CLAIMED").exclude(holders=0),
        "slot filled by nobody": Slot.objects.annotate(n=Count("assignments", filter=filled)).filter(state="FILLED").exclude(n=1),
        "two active assignments": actives.filter(n__gt=1),
        "assignment without a conversation": Assignment.objects.filter(conversation=None).exclude(state=states.OFFERED),
        "conversation without a turn": Conversation.objects.filter(turns=None).exclude(assignment__purpose="OWN"),
        "conversation that ended before its work": Conversation.objects.filter(ended_at__isnull=False, assignment__state="ACTIVE"),
        "work that ended before its conversation": Conversation.objects.filter(ended_at=None, assignment__state__in=ended),
        "turn answered by no comparison": turns.filter(state="ANSWERED").exclude(current=1),
        "comparison on an unanswered turn": turns.exclude(state="ANSWERED").exclude(current=0),
        "turn shown without its candidates": shown.filter(state__in=["SHOWN", "ANSWERED"]).exclude(shown=F("k")),
        "comparison without an item for each candidate": judged.exclude(judged=F("turn__k")),
        "comparison without one best": judged.exclude(best=1),
        "comparison outside the change sequence": judged.exclude(told=1),
        "place of somebody turned away": Placement.objects.filter(annotator__state="QUOTA_FULL").exclude(state="RELEASED"),
        "reservation of somebody done": Placement.objects.filter(annotator__state="COMPLETED", state="RESERVED"),
        "person admitted without a place": Annotator.objects.filter(admitted_at__isnull=False, placements=None),
        "place of somebody not admitted": Placement.objects.filter(annotator__admitted_at=None),
    }
    return [f"impossible: {name}: {row}" for name, rows in found.items() for row in rows[:3]]


def wrong_counts(study: Study) -> list[str]:
    """Prompts above the overlap, cells above their target, and figures of the board that a recount does not give."""
    problems = []
    counted = Counter(Assignment.objects.counted().filter(purpose="MAIN").values_list("prompt_id", "slot__recipe_id"))
    problems += [f"prompt {prompt} has {n} conversations" for (prompt, _), n in counted.items() if n > study.overlap]
    places = list(Placement.objects.values_list("quota_id", "cell_id", "state", "is_over"))
    for row in quota_board(study):
        here = [(state, over) for quota, cell, state, over in places if (quota, cell) == (row.quota_id, row.cell_id)]
        states = Counter(state for state, _ in here)
        over = sum(over for _, over in here)
        if (row.reserved, row.completed, row.released, row.over) != (states["RESERVED"], states["COMPLETED"], states["RELEASED"], over):
            problems.append(f"the board shows {row}, a recount gives {dict(states)}, over {over}")
        taken = states["RESERVED"] + states["COMPLETED"] - over
        if not row.is_outside and row.target is not None and taken > row.target:
            problems.append(f"cell {row.cell} has {taken} of {row.target}")
    return problems


def missing_in_export(keys: set[str], port: int, token: str) -> list[str]:
    """Acknowledged comparisons that the export API does not send as they were sent to us. It tells of them a moment after the commit."""
    wanted = {
        (turn, position, explanation)
        for key, turn, position, explanation in Comparison.objects.filter(items__rank=1).values_list(
            "submission_id", "turn__number", "items__shown_candidate__position", "explanation"
        )
        if str(key) in keys
    }
    ends = time.monotonic() + 120
    while missing := wanted - exported(port, token):
        if time.monotonic() > ends:
            return [f"not in the export: {entry}" for entry in missing]
        time.sleep(0.2)
    return []


def exported(port: int, token: str) -> set[tuple[int, int, str]]:
    address = f"http://127.0.0.1:{port}/api/v1/comparisons/"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            entries = [json.loads(line) for line in response]
    except (OSError, ValueError):
        return set()  # the web is being killed; ask again
    return {
        (entry["turn_number"], next(c["position"] for c in entry["candidates"] if c["chosen"]), entry["explanation"]) for entry in entries
    }


def sweep_now() -> dict[str, int]:
    return {"found": sweep(now=timezone.now())}


def waiting() -> list[int]:
    """Live turns whose candidates are still to be made."""
    return list(Turn.objects.filter(candidate_set__is_live=True).exclude(candidate_set__state="READY").values_list("pk", flat=True))


COMMANDS = {"make": make, "check": check, "sweep": sweep_now, "waiting": waiting}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        command = COMMANDS[order.pop("do")]
        for attempt in range(20):
            try:
                answer = command(**order)
                break
            except (OperationalError, InterfaceError):  # the connection of before the kill
                connection.close()
                if attempt == 19:
                    raise
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
