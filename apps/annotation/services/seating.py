"""Making the seats: one slot per prompt, locale, recipe and ordinal up to the overlap."""

from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet

from apps.annotation.models import Slot
from apps.annotation.randomness import derive_seed, shuffled
from apps.content.models import Prompt
from apps.core.text import text_hash
from apps.generation.arms import arms_of_study, current_recipes
from apps.generation.models import CandidateSet, Recipe
from apps.generation.services import request_sets_for_study
from apps.studies.models import Study, StudyLocale


@dataclass(frozen=True)
class Seating:
    """What `seat_study` did, in slots."""

    added: int
    retired: int
    reopened: int


def seat_study(*, study: Study) -> Seating:
    """Give every current prompt its slots in every locale, with its candidate set requested. Running it again mends what changed.

    Prompts come in a random order drawn from the study's seed, in waves of `prompts_per_wave`: within a wave every
    prompt gets its first conversation before any gets its second, and a wave is filled before the next one opens.
    Prompts added later stand behind those already seated. A higher overlap adds slots; a lower one, a removed prompt
    or an older recipe retires those that nobody holds. Where several recipes are current, a prompt has slots in its arm only.
    A slot that waits for a set which a reviewer has rejected waits for the set made in its place.
    """
    request_sets_for_study(study=study)
    arms = arms_of_study(study)
    recipes = current_recipes(study)
    added = retired = reopened = 0
    for locale in study.locales.all():
        for recipe in recipes:
            counts = _seat(study=study, locale=locale, recipe=recipe, arms=arms)
            added, retired, reopened = added + counts.added, retired + counts.retired, reopened + counts.reopened
    dropped = Slot.objects.filter(study_locale__study=study, state=Slot.State.OPEN).exclude(recipe__in=recipes)
    retired += dropped.update(state=Slot.State.RETIRED)
    return Seating(added=added, retired=retired, reopened=reopened)


def _seat(*, study: Study, locale: StudyLocale, recipe: Recipe, arms: dict[str, Recipe]) -> Seating:
    """One locale and recipe, in one transaction. A prompt without a text in the locale's language gets no seat there."""
    existing = CandidateSet.objects.filter(recipe=recipe, language=locale.language, is_live=False).exclude(
        state=CandidateSet.State.REJECTED
    )
    set_by_text = dict(existing.values_list("text_hash", "pk"))
    sets: dict[int, int] = {}
    for prompt in Prompt.objects.current().filter(study=study):
        text: str | None = getattr(prompt, f"text_{locale.language}")
        if text and arms[prompt.key].pk == recipe.pk:
            sets[prompt.pk] = set_by_text[text_hash(text)]
    with transaction.atomic():
        Study.objects.select_for_update().get(pk=study.pk)  # two seatings at once would draw the same queue positions
        slots = Slot.objects.filter(study_locale=locale, prompt__study=study)
        wanted = slots.filter(recipe=recipe, prompt__in=sets, ordinal__lte=study.overlap)
        surplus = slots.filter(state=Slot.State.OPEN).exclude(pk__in=wanted.values("pk"))
        _follow_replacements(wanted, sets)
        retired = surplus.filter(recipe__key=recipe.key).update(state=Slot.State.RETIRED)
        reopened = wanted.filter(state=Slot.State.RETIRED).update(state=Slot.State.OPEN)
        seated = set(wanted.values_list("prompt_id", "ordinal"))
        known = list(dict.fromkeys(slots.filter(recipe=recipe).order_by("queue_position").values_list("prompt_id", flat=True)))
        newcomers = shuffled(sorted(set(sets) - set(known)), derive_seed(study.seed, "queue", recipe.key, len(known)))
        place = {pk: index for index, pk in enumerate(known + newcomers)}
        missing = [
            Slot(
                prompt_id=pk,
                study_locale=locale,
                recipe=recipe,
                candidate_set_id=sets[pk],
                ordinal=ordinal,
                queue_position=_queue_position(place[pk], ordinal, study.prompts_per_wave),
            )
            for pk in sets
            for ordinal in range(1, study.overlap + 1)
            if (pk, ordinal) not in seated
        ]
        Slot.objects.bulk_create(missing, batch_size=1000)
    return Seating(added=len(missing), retired=retired, reopened=reopened)


def repoint_slots(*, rejected: CandidateSet, replacement: CandidateSet) -> int:
    """Let the OPEN and RETIRED slots that wait for `rejected` wait for `replacement`. Returns how many there were."""
    waiting = Slot.objects.filter(candidate_set=rejected, state__in=[Slot.State.OPEN, Slot.State.RETIRED])
    return waiting.update(candidate_set=replacement)


def _follow_replacements(slots: QuerySet[Slot], sets: dict[int, int]) -> None:
    """Mend slots that nobody holds and whose set was rejected: `sets` has the present set of each prompt."""
    stale = slots.filter(state__in=[Slot.State.OPEN, Slot.State.RETIRED], candidate_set__state=CandidateSet.State.REJECTED)
    for prompt_id in stale.order_by().values_list("prompt_id", flat=True).distinct():
        stale.filter(prompt_id=prompt_id).update(candidate_set=sets[prompt_id])


_ORDINALS_PER_WAVE = 2**16  # ordinals are 16-bit, so waves never overlap whatever the overlap becomes


def _queue_position(place: int, ordinal: int, prompts_per_wave: int) -> int:
    wave, column = divmod(place, prompts_per_wave)
    return (wave * _ORDINALS_PER_WAVE + ordinal) * prompts_per_wave + column
