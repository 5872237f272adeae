"""Making the seats: one slot per prompt, locale, recipe and ordinal up to the overlap."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import Case, Count, F, Max, Min, OuterRef, Q, QuerySet, Subquery, Value, When, Window
from django.db.models.functions import RowNumber

from apps.annotation.models import Assignment, Slot
from apps.annotation.models.work import SlotQuerySet
from apps.annotation.queue import queue_position
from apps.annotation.randomness import derive_seed, shuffled
from apps.content.models import Prompt
from apps.core.text import text_hash
from apps.generation.arms import arms_of_study, current_recipes
from apps.generation.models import CandidateSet, Recipe
from apps.generation.services import request_sets_for_study
from apps.studies.models import Study, StudyLocale

BATCH = 1000

OPEN = Q(state=Slot.State.OPEN)
RETIRED = Q(state=Slot.State.RETIRED)
EXCESS = Q(is_excess=True)
AT_WORK = Q(state=Slot.State.CLAIMED, is_excess=False)
FILLED = Q(state=Slot.State.FILLED)
LIVE = ~RETIRED & ~EXCESS
KINDS = [FILLED, AT_WORK, OPEN, EXCESS, RETIRED]  # every slot is of one kind; what is to be kept comes first


@dataclass(frozen=True)
class Seating:
    """What was done to the seats, in slots. `excess` slots are claimed: their work ends as surplus and they retire."""

    added: int = 0
    retired: int = 0
    reopened: int = 0
    excess: int = 0

    def __add__(self, other: "Seating") -> "Seating":
        return Seating(
            added=self.added + other.added,
            retired=self.retired + other.retired,
            reopened=self.reopened + other.reopened,
            excess=self.excess + other.excess,
        )


def seat_study(*, study: Study) -> Seating:
    """Give every current prompt its slots in every locale, with its candidate set requested. Running it again mends what changed.

    Prompts come in a random order drawn from the study's seed, in waves of `prompts_per_wave`: within a wave every
    prompt gets its first conversation before any gets its second, and a wave is filled before the next one opens.
    Prompts added later stand behind those already seated. A removed prompt, a prompt that became gold or an older recipe
    retires the slots that nobody holds. Where several recipes are current, a prompt has slots in its arm only.
    A slot that waits for a set which a reviewer has rejected waits for the set made in its place.
    """
    request_sets_for_study(study=study)
    arms = arms_of_study(study)
    recipes = current_recipes(study)
    done = Seating()
    for locale in study.locales.all():
        for recipe in recipes:
            done += _seat(study=study, locale=locale, recipe=recipe, arms=arms)
    dropped = Slot.objects.filter(study_locale__study=study, state=Slot.State.OPEN).exclude(recipe__in=recipes)
    return done + Seating(retired=dropped.update(state=Slot.State.RETIRED))


def change_overlap(*, study: Study, overlap: int) -> Seating:
    """Set the conversations that each prompt gets, also in the middle of fieldwork, and bring the seats in use to it.

    Raising adds seats, or brings back those that a lower overlap had taken. Lowering retires open seats first; if more
    people are at work than seats are left, those who began last finish as surplus, paid and not counted. What is filled
    stays, and nobody is sent away. All of it is committed at once, so no claim goes beyond the overlap then in force.
    """
    with transaction.atomic():
        locked = Study.objects.select_for_update(no_key=True).get(pk=study.pk)
        locked.overlap = study.overlap = overlap
        locked.save(update_fields=["overlap"])
        slots = seats_in_use(study)
        done = _fit(slots, overlap)
        return done + Seating(added=_add_seats(_gaps(slots, locked), locked))


def preview_overlap(*, study: Study, overlap: int) -> Seating:
    """What `change_overlap` would do now."""
    counts = {
        "live": Count("pk", filter=LIVE),
        "opened": Count("pk", filter=OPEN),
        "at_work": Count("pk", filter=AT_WORK),
        "idle": Count("pk", filter=RETIRED | EXCESS),
        "seats": Max("ordinal"),
    }
    groups: QuerySet[Any, Any] = seats_in_use(study).order_by().values("prompt", "study_locale", "recipe").annotate(**counts)
    foreseen = Seating()
    for live, opened, at_work, idle, seats in groups.values_list(*counts):
        surplus, missing = max(0, live - overlap), max(0, overlap - live)
        retired = min(surplus, opened)
        foreseen += Seating(
            retired=retired,
            excess=min(surplus - retired, at_work),
            reopened=min(missing, idle),
            added=max(0, overlap - seats),
        )
    return foreseen


def seats_in_use(study: Study) -> SlotQuerySet:
    """Slots of the study's current prompts in the arm of each: the overlap says how many of them are live."""
    arms = arms_of_study(study)
    in_arm = Q(pk__in=[])
    for recipe in current_recipes(study):
        in_arm |= Q(recipe=recipe, prompt__key__in=[key for key, arm in arms.items() if arm.pk == recipe.pk])
    return Slot.objects.filter(in_arm, study_locale__study=study, prompt__is_current=True, prompt__is_gold=False)


def _seat(*, study: Study, locale: StudyLocale, recipe: Recipe, arms: dict[str, Recipe]) -> Seating:
    """One locale and recipe, in one transaction. A prompt without a text in the locale's language gets no seat there."""
    existing = CandidateSet.objects.filter(recipe=recipe, language=locale.language, is_live=False).exclude(
        state=CandidateSet.State.REJECTED
    )
    set_by_text = dict(existing.values_list("text_hash", "pk"))
    sets: dict[int, int] = {}
    for prompt in Prompt.objects.current().filter(study=study, is_gold=False):
        text: str | None = getattr(prompt, f"text_{locale.language}")
        if text and arms[prompt.key].pk == recipe.pk:
            sets[prompt.pk] = set_by_text[text_hash(text)]
    with transaction.atomic():
        # Two seatings at once would draw the same queue positions; the overlap is the one that is now in force.
        study = Study.objects.select_for_update(no_key=True).get(pk=study.pk)
        slots = Slot.objects.filter(study_locale=locale, prompt__study=study)
        wanted = slots.filter(recipe=recipe, prompt__in=sets)
        surplus = slots.filter(state=Slot.State.OPEN, recipe__key=recipe.key).exclude(recipe=recipe, prompt__in=sets)
        _follow_replacements(wanted, sets)
        retired = surplus.update(state=Slot.State.RETIRED)
        done = _fit(wanted, study.overlap)
        places = _places(slots.filter(recipe=recipe))
        newcomers = shuffled(sorted(set(sets) - set(places)), derive_seed(study.seed, "queue", recipe.key, len(places)))
        new = [_Gap(pk, locale.pk, recipe.pk, sets[pk], place, 1) for place, pk in enumerate(newcomers, start=len(places))]
        added = _add_seats([*_gaps(wanted, study), *new], study)
    return done + Seating(retired=retired, added=added)


def _fit(slots: SlotQuerySet, overlap: int) -> Seating:
    """Retire or bring back seats until each prompt among `slots` has as many live ones as the overlap, or all that there are.

    Claims and answers go on meanwhile. Each round looks at the prompts that are still off, locks what it changes in id
    order and changes what is then still as it was seen.
    """
    groups = slots.order_by().values("prompt", "study_locale", "recipe").annotate(live=Count("pk", filter=LIVE))
    retired = reopened = excess = 0
    while prompts := _prompts(groups.filter(live__gt=overlap).annotate(free=Count("pk", filter=OPEN | AT_WORK)).filter(free__gt=0)):
        beyond = _ranked(slots.filter(prompt__in=prompts)).filter(rank__gt=overlap)
        opened = _lock(beyond, OPEN)
        retired += _change(opened, state=Slot.State.RETIRED)
        if not opened:
            excess += _change(_lock(beyond, AT_WORK), is_excess=True)
    while prompts := _prompts(groups.filter(live__lt=overlap).annotate(idle=Count("pk", filter=RETIRED | EXCESS)).filter(idle__gt=0)):
        within = _ranked(slots.filter(prompt__in=prompts)).filter(rank__lte=overlap)
        reopened += _change(_lock(within, EXCESS), is_excess=False) + _change(_lock(within, RETIRED), state=Slot.State.OPEN)
    return Seating(retired=retired, reopened=reopened, excess=excess)


def _ranked(slots: SlotQuerySet) -> QuerySet[Any]:
    """`slots` with their `rank` within prompt, locale and arm, the ones to keep first: filled, at work (who began first), open."""
    kind = Case(*(When(condition, then=Value(place)) for place, condition in enumerate(KINDS)))
    holder = Assignment.objects.filter(slot=OuterRef("pk"), fencing_token=OuterRef("fencing_token"))
    began = Case(When(state=Slot.State.CLAIMED, then=Subquery(holder.values("claimed_at")[:1])))
    groups = [F("prompt"), F("study_locale"), F("recipe")]
    return slots.annotate(kind=kind, rank=Window(RowNumber(), partition_by=groups, order_by=[kind, began, F("ordinal")]))


def _prompts(groups: Any) -> list[int]:
    return sorted(set(groups.values_list("prompt", flat=True)))


def _lock(ranked: QuerySet[Any], condition: Q) -> list[int]:
    """Lock, in id order, the slots of `ranked` that meet `condition`, one of `KINDS`, also after waiting for them."""
    # The ids are fetched first: inside the ranked query the condition would apply before the ranks are given, and joined to
    # it PostgreSQL cannot tell how many rows come out of the ranks, and may compare every slot with every other.
    seen = sorted(pk for pk, kind in ranked.values_list("pk", "kind") if KINDS[kind] is condition)
    locked: list[int] = []
    for start in range(0, len(seen), BATCH):
        slots = Slot.objects.filter(condition, pk__in=seen[start : start + BATCH])
        locked += slots.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True)
    return locked


def _change(locked: list[int], **values: Any) -> int:
    for start in range(0, len(locked), BATCH):
        Slot.objects.filter(pk__in=locked[start : start + BATCH]).update(**values)
    return len(locked)


@dataclass(frozen=True)
class _Gap:
    """The seats that a prompt lacks in a locale and arm: from ordinal `first` to the overlap."""

    prompt: int
    study_locale: int
    recipe: int
    candidate_set: int
    place: int
    first: int


def _gaps(slots: SlotQuerySet, study: Study) -> Iterator[_Gap]:
    """What seated prompts lack. Ordinals have no holes, so the highest says how many seats were ever made."""
    seated = slots.order_by().values("prompt", "study_locale", "recipe").annotate(seats=Max("ordinal"), newest=Max("candidate_set"))
    places: dict[tuple[int, int], dict[int, int]] = {}
    for row in seated.filter(seats__lt=study.overlap):
        key = row["study_locale"], row["recipe"]
        if key not in places:
            places[key] = _places(Slot.objects.filter(study_locale=key[0], recipe=key[1]))
        yield _Gap(row["prompt"], *key, row["newest"], places[key][row["prompt"]], row["seats"] + 1)


def _places(slots: SlotQuerySet) -> dict[int, int]:
    """Prompt → its place in the random order, from 0."""
    firsts = slots.order_by().values("prompt").annotate(first=Min("queue_position")).order_by("first")
    return {prompt: place for place, prompt in enumerate(firsts.values_list("prompt", flat=True))}


def _add_seats(gaps: Iterable[_Gap], study: Study) -> int:
    missing = (
        Slot(
            prompt_id=gap.prompt,
            study_locale_id=gap.study_locale,
            recipe_id=gap.recipe,
            candidate_set_id=gap.candidate_set,
            ordinal=ordinal,
            queue_position=queue_position(gap.place, ordinal, study.prompts_per_wave),
        )
        for gap in gaps
        for ordinal in range(gap.first, study.overlap + 1)
    )
    added = 0
    while batch := list(islice(missing, BATCH)):
        added += len(Slot.objects.bulk_create(batch))
    return added


def repoint_slots(*, rejected: CandidateSet, replacement: CandidateSet) -> int:
    """Let the slots that wait for `rejected`, which nobody has seen, wait for `replacement`. Returns how many there were."""
    return Slot.objects.filter(candidate_set=rejected).update(candidate_set=replacement)


def _follow_replacements(slots: QuerySet[Slot], sets: dict[int, int]) -> None:
    """Mend slots that nobody holds and whose set was rejected: `sets` has the present set of each prompt."""
    stale = slots.filter(state__in=[Slot.State.OPEN, Slot.State.RETIRED], candidate_set__state=CandidateSet.State.REJECTED)
    for prompt_id in stale.order_by().values_list("prompt_id", flat=True).distinct():
        stale.filter(prompt_id=prompt_id).update(candidate_set=sets[prompt_id])
