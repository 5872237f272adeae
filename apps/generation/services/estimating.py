"""What a pre-generation would take, before anybody pays for it."""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from django.db.models import Avg

from apps.core.errors import DomainError
from apps.generation.methods import METHODS
from apps.generation.methods.base import fit_context
from apps.generation.models import CandidateSet, GenerationAttempt, ModelSpec, RecipePart
from apps.generation.services.requesting import sets_still_to_make
from apps.generation.services.spending import highest_price, price
from apps.studies.models import Study

RULE = (
    "Rule: a call is taken to use the mean tokens and time of the succeeded calls of its recipe part so far; a part that made none, one "
    "input token per four bytes of prompt, half of max_tokens as output, and 10 s. Each endpoint works at its concurrency and rates, "
    "endpoints side by side. No call is taken to fail. The highest cost is what the budget would hold if every call used all it may."
)
UNKNOWN_SECONDS = 10.0


@dataclass
class EndpointEstimate:
    """Calls to one endpoint, their tokens and the seconds that its limits allow them to take."""

    model_spec: ModelSpec
    calls: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    busy_seconds: float = 0.0
    highest_cost: Decimal = Decimal(0)

    @property
    def cost(self) -> Decimal:
        return price(self.model_spec, input_tokens=round(self.input_tokens), output_tokens=round(self.output_tokens))

    @property
    def seconds(self) -> float:
        spec = self.model_spec
        bounds = [self.busy_seconds / (spec.concurrency if spec.concurrency == 1 else spec.concurrency - 1)]
        if spec.requests_per_minute:
            bounds.append(60 * self.calls / spec.requests_per_minute)
        if spec.tokens_per_minute:
            bounds.append(60 * (self.input_tokens + self.output_tokens) / spec.tokens_per_minute)
        return max(bounds)


@dataclass
class Estimate:
    """Of one study: sets still to make, and what each endpoint would be asked. `unanswerable`: sets whose recipe is not whole."""

    sets: int = 0
    unanswerable: int = 0
    measured: bool = True
    endpoints: dict[int, EndpointEstimate] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return sum(row.calls for row in self.endpoints.values())

    @property
    def cost(self) -> Decimal:
        return sum((row.cost for row in self.endpoints.values()), Decimal(0))

    @property
    def highest_cost(self) -> Decimal:
        return sum((row.highest_cost for row in self.endpoints.values()), Decimal(0))

    @property
    def seconds(self) -> float:
        return max((row.seconds for row in self.endpoints.values()), default=0.0)


def estimate_generation(*, study: Study) -> Estimate:
    """Go through every call that is still to make. Writes nothing and calls nobody."""
    sets = sets_still_to_make(study)
    estimate = Estimate(sets=len(sets))
    parts: dict[int, list[RecipePart]] = {}
    past = _past(study)
    answered = _answered(study)
    for candidate_set in sets:
        if candidate_set.recipe_id not in parts:
            rows = candidate_set.recipe.parts.select_related("recipe", "model_spec", "template")
            parts[candidate_set.recipe_id] = list(rows.prefetch_related("variants__model_spec", "variants__template"))
        try:
            for part in parts[candidate_set.recipe_id]:
                _add_part(
                    estimate, candidate_set, part, past.get(part.pk), answered[candidate_set.pk, part.pk] if candidate_set.pk else set()
                )
        except DomainError:
            estimate.unanswerable += 1
    return estimate


def _add_part(
    estimate: Estimate, candidate_set: CandidateSet, part: RecipePart, past: tuple[float, float, float] | None, answered: set[int]
) -> None:
    method = METHODS[part.method]
    for place, call in enumerate(method.calls(part)):
        if place in answered:
            continue
        messages, _ = fit_context(method.messages(call, language=candidate_set.language, conversation=candidate_set.messages))
        row = estimate.endpoints.setdefault(call.model_spec.pk, EndpointEstimate(call.model_spec))
        if past is None:
            estimate.measured = False
            size = sum(len(message["content"].encode()) for message in messages)
            past_or_guess = (size / 4, call.model_spec.max_tokens / 2, UNKNOWN_SECONDS)
        else:
            past_or_guess = past
        row.calls += 1
        row.input_tokens += past_or_guess[0]
        row.output_tokens += past_or_guess[1]
        row.busy_seconds += past_or_guess[2]
        row.highest_cost += highest_price(call.model_spec, messages, method.response_format(call))


def _past(study: Study) -> dict[int, tuple[float, float, float]]:
    """Per recipe part: mean input tokens, output tokens and seconds of its succeeded calls."""
    succeeded = GenerationAttempt.objects.filter(
        candidate_set__recipe__study=study, state=GenerationAttempt.State.SUCCEEDED, input_tokens__isnull=False
    )
    means = succeeded.values("recipe_part").annotate(a=Avg("input_tokens"), b=Avg("output_tokens"), c=Avg("latency_ms"))
    rows = means.values_list("recipe_part", "a", "b", "c")
    return {part: (a, b or 0.0, UNKNOWN_SECONDS if c is None else c / 1000) for part, a, b, c in rows}


def _answered(study: Study) -> defaultdict[tuple[int, int], set[int]]:
    """(set, part) → places of the calls that succeeded, for sets that are not finished."""
    found: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    rows = GenerationAttempt.objects.filter(
        candidate_set__recipe__study=study,
        candidate_set__state__in=[CandidateSet.State.PENDING, CandidateSet.State.GENERATING],
        state=GenerationAttempt.State.SUCCEEDED,
    ).values_list("candidate_set", "recipe_part", "parameters")
    for candidate_set, part, parameters in rows:
        found[candidate_set, part].add(parameters.get("call", len(found[candidate_set, part])))
    return found
