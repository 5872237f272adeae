"""Ask for candidate sets, and steer the ones of a study: pause, resume, cancel, retry."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Case, F, QuerySet, Value, When
from django.utils import timezone

from apps.content.models import Prompt
from apps.core.enqueue import enqueue_many, enqueue_on_commit
from apps.core.text import clean_text, text_hash
from apps.generation.arms import arms_of_study
from apps.generation.models import CandidateSet, GenerationPolicy, ModelSpec, Recipe
from apps.studies.models import Study

TASK_NAME = "generation.generate_set"
CANCELLED = "cancelled"
# Rows of one statement where a study's sets change together, so that no transaction is long.
BATCH = 500


@dataclass(frozen=True)
class RequestedSets:
    """Sets wanted for a study: their ids, and the texts that could not be asked for ("prompt key, language")."""

    ids: frozenset[int]
    missing_texts: tuple[str, ...]


def request_candidate_set(*, recipe: Recipe, language: str, text: str) -> CandidateSet:
    """The pre-generated set for `text`, made PENDING if there is none yet. Safe when two ask at once; enqueues nothing."""
    wanted = _pregenerated(recipe, language, text, k=recipe.k)
    existing = CandidateSet.objects.filter(recipe=recipe, language=language, text_hash=wanted.text_hash, is_live=False)
    existing = existing.exclude(state=CandidateSet.State.REJECTED)
    found = existing.first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            wanted.save()
    except IntegrityError:
        return existing.get()
    return wanted


def request_sets_for_study(*, study: Study) -> RequestedSets:
    """Make sure that each current prompt of the study × language has a set by the recipe of its arm. Enqueues nothing."""
    ids: set[int] = set()
    wanted_sets, missing = _wanted_sets(study)
    for (recipe, language), wanted in wanted_sets.items():
        existing = _existing(recipe, language)
        there = set(existing.values_list("text_hash", flat=True))
        # Two that run at once wish for the same rows; the unique constraint lets the second pass without a word.
        missing_rows = [row for key, row in wanted.items() if key not in there]
        for start in range(0, len(missing_rows), BATCH):
            CandidateSet.objects.bulk_create(missing_rows[start : start + BATCH], ignore_conflicts=True)
        ids.update(pk for pk, key in existing.values_list("pk", "text_hash") if key in wanted)
    return RequestedSets(ids=frozenset(ids), missing_texts=tuple(missing))


def sets_still_to_make(study: Study) -> list[CandidateSet]:
    """What a pre-generation would work on: stored sets that are not finished, and unsaved ones that it would add. Writes nothing."""
    finished = [CandidateSet.State.READY, CandidateSet.State.HELD, CandidateSet.State.FAILED]
    found: list[CandidateSet] = []
    for (recipe, language), wanted in _wanted_sets(study)[0].items():
        existing = {row.text_hash: row for row in _existing(recipe, language)}
        rows = (existing.get(key, row) for key, row in wanted.items())
        found += [row for row in rows if row.state not in finished]
    return found


def request_live_set(*, recipe: Recipe, language: str, messages: list[dict[str, str]]) -> CandidateSet:
    """A new set that answers the last of `messages` for one turn, PENDING and enqueued on commit."""
    cleaned = [{"role": message["role"], "content": clean_text(message["content"])} for message in messages]
    last = text_hash(cleaned[-1]["content"])
    candidate_set = CandidateSet.objects.create(
        recipe=recipe,
        language=language,
        k=recipe.k,
        is_live=True,
        messages=cleaned,
        text_hash=last,
        seed=_set_seed(recipe.study, language, last),
    )
    enqueue_on_commit(TASK_NAME, candidate_set.pk, queue="interactive")
    return candidate_set


def enqueue_pending(*, study: Study) -> int:
    """Enqueue the study's pre-generated sets that are due; how many. Asking twice does no harm: the claim decides.

    A paused study has none. The messages leave at once: no transaction is held while the broker is told.
    """
    if GenerationPolicy.objects.filter(study=study, is_paused=True).exists():
        return 0
    ids = list(
        CandidateSet.objects.due(timezone.now()).filter(recipe__study=study, is_live=False).order_by("pk").values_list("pk", flat=True)
    )
    enqueue_many(TASK_NAME, ids, queue="bulk")
    return len(ids)


def retry_failed_sets(*, study: Study | None = None, candidate_set_ids: Iterable[int] | None = None) -> int:
    """Give FAILED sets (of `study`, among `candidate_set_ids`) a fresh count of tries and enqueue them; how many.

    Whoever asks says that the cause is mended, so endpoints that their sets use are tried again at once, one call at a time at first.
    """
    failed = CandidateSet.objects.filter(state=CandidateSet.State.FAILED)
    if study is not None:
        failed = failed.filter(recipe__study=study)
    if candidate_set_ids is not None:
        failed = failed.filter(pk__in=set(candidate_set_ids))
    ids = list(failed.order_by("pk").values_list("pk", flat=True))
    count = 0
    for start in range(0, len(ids), BATCH):
        with transaction.atomic():
            rows = list(failed.filter(pk__in=ids[start : start + BATCH]).select_for_update().order_by("pk"))
            for row in rows:
                row.state, row.failures, row.error_code, row.retry_at = CandidateSet.State.PENDING, 0, "", None
                enqueue_on_commit(TASK_NAME, row.pk, queue=queue_of(row.is_live))
            CandidateSet.objects.bulk_update(rows, ["state", "failures", "error_code", "retry_at"], batch_size=200)
            count += len(rows)
    if count:
        recipes = CandidateSet.objects.filter(pk__in=ids).values("recipe")
        ModelSpec.objects.filter(study__recipes__in=recipes, paused_until__isnull=False).update(paused_until=None)
    return count


def pause_generation(*, study: Study) -> None:
    """Let the pre-generation of `study` rest: sets being made are finished, no other is begun. Live turns go on."""
    GenerationPolicy.objects.get_or_create(study=study)
    GenerationPolicy.objects.filter(study=study).update(is_paused=True)


def resume_generation(*, study: Study) -> int:
    """Go on after `pause_generation`; how many sets were enqueued."""
    GenerationPolicy.objects.filter(study=study).update(is_paused=False)
    return enqueue_pending(study=study)


def cancel_generation(*, study: Study) -> int:
    """Give up the pre-generated sets of `study` that are not made yet; how many.

    Waiting ones are FAILED at once. Those being made end with their present try: it makes them, or they are FAILED and not tried again.
    `retry_failed_sets` brings them back with all that was paid for so far.
    """
    state = CandidateSet.State
    unmade = CandidateSet.objects.filter(recipe__study=study, is_live=False, state__in=[state.PENDING, state.GENERATING])
    # One statement, so that no set slips from one state to the other between two.
    ended = Case(When(state=state.PENDING, then=Value(state.FAILED)), default=F("state"))
    return unmade.update(state=ended, error_code=CANCELLED, retry_at=None)


def queue_of(is_live: bool) -> str:
    return "interactive" if is_live else "bulk"


def number_from(*parts: object) -> int:
    """A whole number below 2**64 that the parts determine."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big")


def _wanted_sets(study: Study) -> tuple[dict[tuple[Recipe, str], dict[str, CandidateSet]], list[str]]:
    """Per current recipe × language: text hash → unsaved set for the prompts of this arm; and the texts that are missing."""
    missing: list[str] = []
    languages = list(dict.fromkeys(study.locales.values_list("language", flat=True)))
    arms = arms_of_study(study)
    sizes = {recipe.pk: recipe.k for recipe in arms.values()}
    wanted: dict[tuple[Recipe, str], dict[str, CandidateSet]] = {}
    for prompt in Prompt.objects.current().filter(study=study):
        recipe = arms.get(prompt.key)
        for language in languages:
            try:
                text = prompt.text_in(language)
            except LookupError:
                missing.append(f"{prompt.key}, {language}")
                continue
            if recipe is not None:
                row = _pregenerated(recipe, language, text, k=sizes[recipe.pk])
                wanted.setdefault((recipe, language), {})[row.text_hash] = row
    return wanted, missing


def _existing(recipe: Recipe, language: str) -> QuerySet[CandidateSet]:
    return CandidateSet.objects.filter(recipe=recipe, language=language, is_live=False).exclude(state=CandidateSet.State.REJECTED)


def _pregenerated(recipe: Recipe, language: str, text: str, *, k: int) -> CandidateSet:
    cleaned = clean_text(text)
    key = text_hash(cleaned)
    return CandidateSet(
        recipe=recipe,
        language=language,
        k=k,
        messages=[{"role": "user", "content": cleaned}],
        text_hash=key,
        seed=_set_seed(recipe.study, language, key),
    )


def _set_seed(study: Study, language: str, key: str) -> int:
    return number_from(study.seed, language, key) % 2**62
