"""Figures on a study's candidate sets, per recipe and language, before anyone has judged them. Reads only."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from apps.generation.judging import DIMENSIONS, UNLABELLED
from apps.generation.measures.agreement import Agreement, agreement
from apps.generation.measures.coverage import POLES, PUBLISHED, Pole, Scores, reaches, wilson_interval
from apps.generation.measures.diversity import distinct_n, length_spread, quartiles
from apps.generation.models import Candidate, CandidateSet, InstructionTemplate, ModelSpec, Recipe, ValueScore
from apps.generation.similarity import mean_similarity, similarity_matrix
from apps.studies.models import Study

OFFLINE_WARNING = (
    "Some or all of these texts come from the bundled offline endpoint, whose answers were written by hand. "
    "The figures show that the plumbing works; they are no finding about any model or sampling method."
)
CHUNK = 200


@dataclass(frozen=True)
class DiversityRow:
    """One recipe in one language. Similarities are 0 to 1 by `measure`, and only those of one measure compare; lengths are in words.

    `similarities` are least, lower quartile, median, upper quartile and greatest over the sets; the other figures are means over the
    sets, except `highest_length_ratio`. `sets` is how many were read of the `ready` ones.
    """

    recipe: str
    language: str
    locales: tuple[str, ...]
    sets: int
    ready: int
    measure: str
    mean_similarity: float
    deviation: float
    similarities: tuple[float, float, float, float, float]
    distinct_1: float | None
    distinct_2: float | None
    length_deviation: float
    length_ratio: float
    highest_length_ratio: float


@dataclass(frozen=True)
class Share:
    """Sets of a row that hold at least one answer at `pole`, with the 95 % Wilson interval and the published shares, if any."""

    pole: Pole
    count: int
    share: float
    low: float
    high: float

    @property
    def published(self) -> tuple[float, float] | None:
        return PUBLISHED.get(self.pole.name)


@dataclass(frozen=True)
class CoverageRow:
    """One recipe in one language: `sets` whose answers are all scored, `unscored` sets left out, and a share for each pole."""

    recipe: str
    language: str
    locales: tuple[str, ...]
    sets: int
    unscored: int
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class UnreadyArm:
    """A current recipe that has no READY set in a language of the study. `failures` counts its failed sets by error code."""

    recipe: str
    language: str
    locales: tuple[str, ...]
    waiting: int
    held: int
    failures: tuple[tuple[str, int], ...]

    @property
    def why(self) -> str:
        found = []
        if self.failures:
            codes = ", ".join(f"{count} × {code or '?'}" for code, count in self.failures)
            found.append(f"{sum(count for _code, count in self.failures)} failed ({codes})")
        if self.held:
            found.append(f"{self.held} held below the diversity floor")
        if self.waiting:
            found.append(f"{self.waiting} waiting or being made")
        return "; ".join(found) or "no set asked for yet"


@dataclass(frozen=True)
class JudgeStanding:
    """What a judge's scores can be compared by: candidates of READY sets, texts that it scored, texts that the offline endpoint gave its
    0.5 for want of a label (not among the scored), hand labels, and labels that match a scored text."""

    study: str
    judge: str
    candidates: int
    scored: int
    unlabelled: int
    labels: int
    matched: int

    @property
    def gap(self) -> str:
        """The one thing to do next, in words; empty where scores and labels meet."""
        if not self.candidates:
            return f"{self.study} has no ready candidate set. Make some with `manage.py pregenerate {self.study}`."
        if not self.scored and not self.unlabelled:
            score = f"Score them with `manage.py judge_candidates {self.study}`."
            return f"0 of {self.candidates} candidates have a score of {self.judge}. {score}"
        if not self.matched:
            return (
                f"0 of {self.labels} hand labels match one of the {self.scored} texts that {self.judge} scored, so nobody knows how good "
                f"the scores are. Label some of these texts and run `manage.py coverage_report {self.study} --labels FILE`."
            )
        return ""


def ready_sets(study: Study) -> QuerySet[CandidateSet]:
    """Pre-generated sets that are READY. Live sets answer one person's words, so that no two are comparable."""
    return CandidateSet.objects.filter(recipe__study=study, is_live=False, state=CandidateSet.State.READY)


def speaks_offline(study: Study, judge: ModelSpec | None = None) -> bool:
    """Whether candidates of the study (or `judge`) come from the bundled offline endpoint."""
    if judge is not None and is_offline(judge):
        return True
    made = ModelSpec.objects.filter(candidates__candidate_set__recipe__study=study).distinct()
    return any(is_offline(model_spec) for model_spec in made)


def is_offline(model_spec: ModelSpec) -> bool:
    return not model_spec.base_url or model_spec.base_url.rstrip("/") == settings.OFFLINE_ENDPOINT_URL.rstrip("/")


def diversity_rows(study: Study, *, most_sets: int | None = None, progress: Callable[[], object] = lambda: None) -> list[DiversityRow]:
    """A row per recipe × language × measure that has READY sets. Stored similarities are used; where a set has none, they are computed.

    `most_sets` limits what is read per recipe and language, evenly over the sets; `progress` is called after each set.
    """
    locales = _locales(study)
    rows = []
    for recipe, language, ids in _cells(study):
        read = ids if most_sets is None or len(ids) <= most_sets else [ids[i * len(ids) // most_sets] for i in range(most_sets)]
        figures: dict[str, list[_SetFigures]] = defaultdict(list)
        for candidate_set in _with_texts(read):
            texts = [candidate.text for candidate in candidate_set.candidates.all()]
            measure, similarity = _similarity(candidate_set, texts)
            figures[measure].append(
                _SetFigures(mean_similarity(similarity), distinct_n(texts, 1), distinct_n(texts, 2), *length_spread(texts))
            )
            progress()
        for measure, found in sorted(figures.items()):
            rows.append(_diversity_row(recipe, language, locales[language], len(ids), measure, found))
    return rows


def coverage_rows(study: Study, judge: ModelSpec, rubric: InstructionTemplate) -> list[CoverageRow]:
    """A row per recipe × language that has READY sets, by the scores of `judge` with `rubric`."""
    locales = _locales(study)
    scores = _scores_by_set(study, judge, rubric)
    sizes = dict(ready_sets(study).values_list("pk", "k"))
    rows = []
    for recipe, language, ids in _cells(study):
        scored = [scores[pk] for pk in ids if len(scores.get(pk, ())) == sizes.get(pk)]
        shares = []
        for pole in POLES:
            count = sum(1 for answers in scored if reaches(answers, pole))
            low, high = wilson_interval(count, len(scored))
            shares.append(Share(pole, count, count / len(scored) if scored else 0.0, low, high))
        rows.append(CoverageRow(recipe, language, locales[language], len(scored), len(ids) - len(scored), tuple(shares)))
    return rows


def unready_arms(study: Study) -> list[UnreadyArm]:
    """The current recipes × languages of the study that have no READY set, with what became of their sets."""
    state = CandidateSet.State
    rows = CandidateSet.objects.filter(recipe__study=study, recipe__is_current=True, is_live=False).exclude(state=state.REJECTED)
    found: dict[tuple[int, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for recipe_id, language, one, code, count in rows.values_list("recipe", "language", "state", "error_code").annotate(Count("pk")):
        found[recipe_id, language][one, code if one == state.FAILED else ""] += count
    arms = []
    for recipe in Recipe.objects.filter(study=study, is_current=True).order_by("key"):
        for language, locales in sorted(_locales(study).items()):
            sets = found[recipe.pk, language]
            if sets[state.READY, ""]:
                continue
            failures = tuple((code, count) for (one, code), count in sets.most_common() if one == state.FAILED)
            waiting = sets[state.PENDING, ""] + sets[state.GENERATING, ""]
            arms.append(UnreadyArm(str(recipe), language, locales, waiting, sets[state.HELD, ""], failures))
    return arms


def judge_agreement(study: Study, judge: ModelSpec, rubric: InstructionTemplate, labels: dict[str, Scores]) -> tuple[Agreement, ...]:
    """Agreement of the judge's scores with `labels` (by fingerprint) on each dimension; empty where no scored candidate has a label."""
    found = {}
    fields = _known_scores(study, judge, rubric).values_list("candidate__text_fingerprint", *DIMENSIONS)
    for key, *values in fields.iterator(chunk_size=2000):
        if key in labels:
            found[key] = Scores(*values)
    if not found:
        return ()
    return tuple(
        agreement(name, [found[key].on(name) for key in sorted(found)], [labels[key].on(name) for key in sorted(found)])
        for name in DIMENSIONS
    )


def judge_standing(
    study: Study, judge: ModelSpec, rubric: InstructionTemplate, labels: dict[str, Scores], found: tuple[Agreement, ...]
) -> JudgeStanding:
    """How far the scores of `judge` could be compared with `labels`; `found` is what `judge_agreement` says of them."""
    return JudgeStanding(
        study=study.slug,
        judge=judge.key,
        candidates=Candidate.objects.filter(candidate_set__in=ready_sets(study)).count(),
        scored=_known_scores(study, judge, rubric).count(),
        unlabelled=unlabelled_scores(study, judge, rubric),
        labels=len(labels),
        matched=found[0].count if found else 0,
    )


def unlabelled_scores(study: Study, judge: ModelSpec, rubric: InstructionTemplate) -> int:
    """Scores that the offline endpoint gave to texts it has no label for: 0.5 on both dimensions, meaning nothing."""
    rows = ValueScore.objects.filter(judge=judge, rubric=rubric, candidate__candidate_set__recipe__study=study)
    return rows.filter(model_answered=UNLABELLED).count()


def _known_scores(study: Study, judge: ModelSpec, rubric: InstructionTemplate) -> QuerySet[ValueScore]:
    rows = ValueScore.objects.filter(judge=judge, rubric=rubric, candidate__candidate_set__recipe__study=study)
    return rows.exclude(model_answered=UNLABELLED)


@dataclass(frozen=True)
class _SetFigures:
    similarity: float
    distinct_1: float | None
    distinct_2: float | None
    length_deviation: float
    length_ratio: float


def _diversity_row(
    recipe: str, language: str, locales: tuple[str, ...], ready: int, measure: str, found: list[_SetFigures]
) -> DiversityRow:
    similarities = [figures.similarity for figures in found]
    return DiversityRow(
        recipe=recipe,
        language=language,
        locales=locales,
        sets=len(found),
        ready=ready,
        measure=measure,
        mean_similarity=statistics.fmean(similarities),
        deviation=statistics.stdev(similarities) if len(found) > 1 else 0.0,
        similarities=quartiles(similarities),
        distinct_1=_mean(figures.distinct_1 for figures in found),
        distinct_2=_mean(figures.distinct_2 for figures in found),
        length_deviation=statistics.fmean(figures.length_deviation for figures in found),
        length_ratio=statistics.fmean(figures.length_ratio for figures in found),
        highest_length_ratio=max(figures.length_ratio for figures in found),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def _similarity(candidate_set: CandidateSet, texts: list[str]) -> tuple[str, list[list[float]]]:
    stored: dict[str, Any] | None = candidate_set.similarity
    if stored and len(stored.get("matrix", ())) == len(texts):
        return str(stored["measure"]), stored["matrix"]
    return similarity_matrix(texts, language=candidate_set.language)


def _cells(study: Study) -> list[tuple[str, str, list[int]]]:
    """(recipe, language, ids of the READY sets) in a stable order; a recipe that is not current any more keeps its row."""
    cells: dict[tuple[str, int, str], list[int]] = defaultdict(list)
    rows = ready_sets(study).order_by("pk").values_list("pk", "recipe__key", "recipe__version", "language")
    for pk, key, version, language in rows.iterator(chunk_size=2000):
        cells[key, version, language].append(pk)
    return [(f"{key} v{version}", language, ids) for (key, version, language), ids in sorted(cells.items())]


def _with_texts(ids: list[int]) -> Iterator[CandidateSet]:
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        yield from CandidateSet.objects.filter(pk__in=chunk).order_by("pk").defer("messages").prefetch_related("candidates")


def _scores_by_set(study: Study, judge: ModelSpec, rubric: InstructionTemplate) -> dict[int, list[Scores]]:
    scores: dict[int, list[Scores]] = defaultdict(list)
    rows = ValueScore.objects.filter(Q(judge=judge, rubric=rubric), candidate__candidate_set__in=ready_sets(study)).values_list(
        "candidate__candidate_set_id", *DIMENSIONS
    )
    for pk, *values in rows.iterator(chunk_size=2000):
        scores[pk].append(Scores(*values))
    return scores


def _locales(study: Study) -> dict[str, tuple[str, ...]]:
    """The study's locales by language: everybody who reads a language judges the same sets."""
    tags: dict[str, list[str]] = defaultdict(list)
    for locale in study.locales.order_by("country", "language"):
        tags[locale.language].append(locale.tag)
    return defaultdict(tuple, {language: tuple(found) for language, found in tags.items()})
