"""Tasks that are mixed in at stated rates, beside the study's policy: gold items, repeated items, pilots, own messages.

None of them holds a slot, so none counts towards the overlap.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import QuerySet

from apps.annotation.models import Assignment, AssignmentPlan, Slot, Turn
from apps.annotation.queue import wave_of
from apps.annotation.randomness import derive_seed
from apps.annotators.models import Annotator
from apps.content.models import Prompt
from apps.core.text import text_hash
from apps.generation.arms import current_recipes, draw_arm
from apps.generation.models import CandidateSet

Purpose = Assignment.Purpose
Item = TypeVar("Item")


@dataclass(frozen=True)
class Extra:
    """A task without a slot. Without a candidate set the person writes the first message."""

    purpose: str
    policy: str
    recipe_id: int
    seed: int
    reason: str
    prompt: Prompt | None = None
    candidate_set_id: int | None = None
    repeats: Assignment | None = None


def draw_extra(*, annotator: Annotator, plan: AssignmentPlan, ordinal: int, now: datetime) -> Extra | None:
    """The extra task that the person's seed draws for their task number `ordinal`; None: the study's policy chooses.

    One number decides between gold and repetition, so that both rates hold exactly; where the drawn kind has no item
    left for this person, the task is an ordinary one.
    """
    seed = derive_seed(annotator.seed, "mix", ordinal)
    number, gold = _number(seed), float(plan.gold_share)
    extra = None
    if number < gold:
        extra = _gold(annotator, seed)
    elif number < gold + float(plan.repeat_share):
        extra = _repetition(annotator, plan, seed, now)
    return extra or _own(annotator, ordinal)


def draw_pilot(*, annotator: Annotator) -> Extra | None:
    """For people who never count: the next prompt in queue order that they have not had, whether or not its seats are taken."""
    had = annotator.assignments.filter(purpose=Purpose.PILOT).values("prompt")
    seats = Slot.objects.filter(study_locale=annotator.study_locale_id, ordinal=1, candidate_set__state=CandidateSet.State.READY)
    current = seats.filter(prompt__is_current=True, prompt__is_gold=False, recipe__is_current=True).exclude(prompt__in=had)
    seat = current.select_related("prompt").order_by("queue_position").first()
    if seat is None:
        return None
    reason = f"pilot, wave {wave_of(seat.queue_position, annotator.study.prompts_per_wave)}"
    return Extra(Purpose.PILOT, "pilot", seat.recipe_id, 0, reason, prompt=seat.prompt, candidate_set_id=seat.candidate_set_id)


def _number(seed: int) -> float:
    return random.Random(seed).random()  # noqa: S311  (a stored, repeatable draw)


def _one_of(items: list[Item], seed: int) -> Item:
    return items[derive_seed(seed, "item") % len(items)]


def _gold(annotator: Annotator, seed: int) -> Extra | None:
    """A gold item that the person has not had in any version and whose candidates are ready in their language."""
    language = annotator.study_locale.language
    had = annotator.assignments.filter(purpose=Purpose.GOLD).values("prompt__key")
    prompts = Prompt.objects.current().filter(study=annotator.study_id, is_gold=True).exclude(key__in=had)
    by_hash = {text_hash(text): prompt for prompt in prompts.order_by("pk") if (text := getattr(prompt, f"text_{language}"))}
    ready = CandidateSet.objects.filter(
        recipe__study=annotator.study_id,
        recipe__is_current=True,
        language=language,
        is_live=False,
        state=CandidateSet.State.READY,
        text_hash__in=list(by_hash),
    )
    sets = list(ready.order_by("pk").only("pk", "recipe_id", "text_hash"))
    if not sets:
        return None
    chosen = _one_of(sets, seed)
    return Extra(
        Purpose.GOLD, "gold", chosen.recipe_id, seed, "gold item drawn", prompt=by_hash[chosen.text_hash], candidate_set_id=chosen.pk
    )


def _repetition(annotator: Annotator, plan: AssignmentPlan, seed: int, now: datetime) -> Extra | None:
    """An item that the person judged long enough ago, in tasks or in hours, and that was not repeated yet."""
    tasks = list(annotator.assignments.filter(conversation__isnull=False).order_by("claimed_at", "pk").values_list("pk", flat=True))
    long_ago = tasks[: -plan.repeat_after_tasks] if plan.repeat_after_tasks else tasks
    judged: QuerySet[Assignment] = annotator.assignments.filter(
        purpose=Purpose.MAIN,
        state__in=[Assignment.State.COMPLETED, Assignment.State.SURPLUS],
        repetitions__isnull=True,
    )
    ripe = judged.filter(pk__in=long_ago) | judged.filter(ended_at__lte=now - timedelta(hours=plan.repeat_after_hours))
    items = list(ripe.select_related("prompt").order_by("pk"))
    if not items:
        return None
    first = _one_of(items, seed)
    turn = Turn.objects.get(conversation__assignment=first, number=1)
    between = len(tasks) - 1 - tasks.index(first.pk)
    return Extra(
        Purpose.REPEAT,
        "repeat",
        first.recipe_id,
        seed,
        f"repeats assignment {first.pk}, {between} tasks between",
        prompt=first.prompt,
        candidate_set_id=turn.candidate_set_id,
        repeats=first,
    )


def _own(annotator: Annotator, ordinal: int) -> Extra | None:
    """A conversation that the person opens; where the study has several arms, the seed draws the one of this task."""
    seed = derive_seed(annotator.seed, "own", ordinal)
    if _number(seed) >= float(annotator.study.own_prompt_share):
        return None
    recipe = draw_arm(current_recipes(annotator.study), derive_seed(annotator.seed, "arm", ordinal))
    return Extra(Purpose.OWN, "own_prompt", recipe.pk, seed, "own message drawn")
