"""A fixed set of prompts for each person, all of it reserved at the first claim."""

import uuid
from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from django.db.models import Count, Q

from apps.annotation.models import Assignment, AssignmentPlan, Slot
from apps.annotation.models.work import SlotQuerySet
from apps.annotation.policies.base import Choice, Policy, reason_for
from apps.annotation.randomness import derive_seed, shuffled
from apps.annotators.models import Annotator
from apps.generation.models import CandidateSet
from apps.studies.models import StudyLocale

State = Assignment.State


def choose(*, annotator: Annotator, plan: AssignmentPlan, until: datetime, now: datetime) -> Choice | None:
    """The next prompt of the person's set.

    1. Draw what the set lacks: at the first claim all of it, later a replacement for what was skipped or taken over
       after the lease.
    2. Lock the slots of the offers one by one, in the order of the draw, until one still holds.
    3. If all were lost meanwhile, draw again.
    """
    while True:
        missing = (plan.set_size or 0) - annotator.assignments.offered().count() - _begun(annotator)
        if missing > 0:
            _reserve(annotator=annotator, missing=missing, until=until, now=now)
        offers = list(annotator.assignments.offered().filter(slot__candidate_set__state=CandidateSet.State.READY))
        if not offers:
            return None
        for offer in offers:
            slot = Slot.objects.select_for_update(of=("self",)).select_related("prompt").get(assignments=offer)
            if offer.holds_slot(slot):
                return Choice(slot=slot, seed=offer.seed, reason=offer.reason, offer=offer)


def _begun(annotator: Annotator) -> int:
    """Prompts of the set that the person has or had, other than those skipped or lost before they began."""
    begun = annotator.assignments.filter(purpose=Assignment.Purpose.MAIN).exclude(state__in=[State.OFFERED, State.SKIPPED])
    return begun.exclude(state=State.EXPIRED, conversation__isnull=True).count()


def _reserve(*, annotator: Annotator, missing: int, until: datetime, now: datetime) -> None:
    """Claim up to `missing` slots on the prompts with most free seats, ties drawn by seed, and offer them in a drawn order.

    The draws of a locale come one after the other (its row is locked): as everybody draws from the least filled, prompts
    stay even, and the last person still finds a whole set.
    """
    lock_draws(annotator.study_locale)
    seed = derive_seed(annotator.seed, "set", annotator.assignments.filter(purpose=Assignment.Purpose.MAIN).count())
    free = Slot.objects.workable_by(annotator).filter(
        Q(state=Slot.State.OPEN) | Q(state=Slot.State.CLAIMED, is_excess=False, lease_expires_at__lt=now)
    )
    slots = {slot.pk: slot for slot in islice(_lock_least_filled(free, seed), missing)}
    for item, pk in enumerate(shuffled(sorted(slots), derive_seed(seed, "order")), start=1):
        slot = slots[pk]
        reason = f"item {item} of {len(slots)} drawn, {reason_for(slot, annotator.study.prompts_per_wave)}"
        slot.claim(until=until, now=now)
        Assignment.objects.create(
            annotator=annotator,
            slot=slot,
            prompt_id=slot.prompt_id,
            recipe_id=slot.recipe_id,
            state=State.OFFERED,
            submission_id=uuid.uuid4(),
            fencing_token=slot.fencing_token,
            lease_expires_at=until,
            policy=POLICY.key,
            seed=seed,
            reason=reason,
            claimed_at=now,
        )


def lock_draws(study_locale: StudyLocale) -> None:
    """Wait for other draws in this locale; people who only refer to it go on."""
    StudyLocale.objects.select_for_update(no_key=True).values_list("pk").get(pk=study_locale.pk)


def _lock_least_filled(free: SlotQuerySet, seed: int) -> Iterator[Slot]:
    """One locked slot per prompt, prompts with most free seats first; a prompt whose free seats are all in use just now is left out."""
    seats = dict(free.order_by().values("prompt").annotate(seats=Count("pk")).values_list("prompt", "seats"))
    for prompt in sorted(shuffled(sorted(seats), seed), key=lambda prompt: -seats[prompt]):
        slot = free.filter(prompt=prompt).order_by("ordinal").select_for_update(of=("self",), skip_locked=True).first()
        if slot is not None:
            yield slot


POLICY = Policy(key="fixed_set", label="A fixed set of prompts for each person", choose=choose, needs=("set_size",))
