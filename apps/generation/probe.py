"""“Test this endpoint”: ask it a little and write down what it can do."""

import copy
import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from apps.core.errors import DomainError
from apps.generation.acceptance import clean_answer
from apps.generation.acceptance.language import read_language
from apps.generation.client import Completion
from apps.generation.methods.base import Messages, answers_format
from apps.generation.models import ModelSpec
from apps.generation.services.side_calls import ask_beside
from apps.generation.services.throttling import close_breaker

# A test has to come back while somebody waits for the page, and costs little. The question with a schema has the endpoint's own deadline:
# a small model may write under a schema until its tokens are used up.
MAX_TOKENS = 300
MAX_SAMPLE_SECONDS = 20
SAMPLE_CHARACTERS = 600

QUESTIONS = {
    "en": "In two sentences: what makes a meal with friends a good one?",
    "fr": "En deux phrases : qu’est-ce qui fait un bon repas entre amis ?",
    "it": "In due frasi: che cosa rende bella una cena fra amici?",
    "pt": "Em duas frases: o que faz uma refeição entre amigos ser boa?",
    "hi": "दो वाक्यों में बताइए: दोस्तों के साथ खाना किस बात से अच्छा बनता है?",
}
# Asks for the marker format, so that only an endpoint which heeds the schema answers in JSON.
_INSTRUCTION = "Write 2 answers to the person's message. Begin each with a line that holds only [[answer]]."
# How an answer by the schema begins; nothing but the schema names the key.
_SCHEMA_BEGUN = re.compile(r'\s*\{\s*"answers"\s*:\s*\[\s*"')
# After one of these the other calls would only fail in the same way, each after its time.
_HOPELESS = {
    "endpoint_unreachable", "endpoint_timeout", "outbound_refused", "outbound_redirect", "api_key_missing", "budget_exhausted",
    "endpoint_error_401", "endpoint_error_403", "endpoint_error_404",
}  # fmt: skip


def probe_endpoint(*, model_spec: ModelSpec, now: datetime) -> dict[str, Any]:
    """Call the endpoint once per language of the study and once with a JSON schema; store and return what came of it.

    Calls also where the circuit breaker is open; an answer closes it, a failure leaves it as it is. The result, kept in
    `model_spec.probe` with `probed_at = now`: `ok` (a sample came in every language), `latency_ms` (median of
    the samples, None without one), `model_answered`, `structured_output` (`supported`: true, false, or null where that is not
    known; `detail` in words), `samples` (language → `text`, `latency_ms`, and `language`: right, wrong or unsure), `cost`, `errors`
    (in words). The calls are paid from the study's and the endpoint's budget. Raises nothing that an endpoint can cause.
    """
    languages = list(dict.fromkeys(model_spec.study.locales.order_by("pk").values_list("language", flat=True))) or [settings.LANGUAGE_CODE]
    probing = _Probing(model_spec)
    samples: dict[str, dict[str, Any]] = {}
    for language in languages:
        completion = probing.ask_for_sample(language)
        if completion is None:
            continue
        text = clean_answer(completion.text)
        samples[language] = {
            "text": text[:SAMPLE_CHARACTERS],
            "latency_ms": round(completion.latency_seconds * 1000),
            "language": read_language(text, language=language).verdict,
        }
        if not text:
            probing.errors.append(f"Sample in {language}: the answer is empty.")
    structured = _probe_structured_output(probing, languages[0])
    times = sorted(sample["latency_ms"] for sample in samples.values())
    result = {
        "ok": len(samples) == len(languages) and all(sample["text"] for sample in samples.values()),
        "latency_ms": times[len(times) // 2] if times else None,
        "model_answered": probing.model_answered,
        "structured_output": structured,
        "samples": samples,
        "cost": f"{probing.cost:f}",
        "errors": probing.errors,
    }
    model_spec.probe, model_spec.probed_at = result, now
    model_spec.save(update_fields=["probe", "probed_at"])
    return result


class _Probing:
    """One test of one endpoint: what it cost so far, what went wrong, and whether going on makes sense."""

    def __init__(self, model_spec: ModelSpec) -> None:
        self.model_spec = model_spec
        self.model_answered = ""
        self.cost = Decimal(0)
        self.errors: list[str] = []
        self.is_hopeless = False

    def ask_for_sample(self, language: str) -> Completion | None:
        """None and a note in `errors` where nothing came. A sample that was cut off is as good as a whole one."""
        if self.is_hopeless:
            return None
        try:
            return self.ask([_question(language)], seconds=MAX_SAMPLE_SECONDS)
        except DomainError as error:
            completion: Completion | None = getattr(error, "completion", None)
            if completion is None:
                self.errors.append(f"Sample in {language}: {error}")
                self.is_hopeless = error.code in _HOPELESS
            return completion

    def ask(self, messages: Messages, *, seconds: int | None = None, response_format: dict[str, Any] | None = None) -> Completion:
        """One short call, within `seconds` where that is less than the endpoint's own deadline. Raises what `ask_beside` raises."""
        spec = copy.copy(self.model_spec)
        spec.max_tokens = min(spec.max_tokens, MAX_TOKENS)
        spec.timeout_seconds = min(spec.timeout_seconds, seconds or spec.timeout_seconds)
        try:
            completion, cost = ask_beside(
                study_id=spec.study_id, model_spec=spec, messages=messages, response_format=response_format, heeds_breaker=False
            )
        except DomainError as error:
            if getattr(error, "completion", None) is not None:
                close_breaker(spec)
            raise
        close_breaker(spec)
        self.cost += cost
        self.model_answered = completion.model
        return completion


def _question(language: str) -> dict[str, str]:
    return {"role": "user", "content": QUESTIONS.get(language, QUESTIONS["en"])}


def _probe_structured_output(probing: _Probing, language: str) -> dict[str, Any]:
    """Whether a JSON schema of two answers is kept to, found out by asking with one."""
    if probing.is_hopeless:
        return {"supported": None, "detail": "not tried, since the endpoint gave no sample"}
    messages = [{"role": "system", "content": _INSTRUCTION}, _question(language)]
    try:
        text = probing.ask(messages, response_format=answers_format(2)).text
    except DomainError as error:
        return _structure_of_failure(probing, error)
    try:
        answers = json.loads(text)["answers"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {"supported": False, "detail": "the endpoint took the schema and did not answer with the JSON asked for"}
    if not isinstance(answers, list) or len(answers) != 2 or not all(isinstance(answer, str) for answer in answers):
        return {"supported": False, "detail": "the endpoint answers in JSON, but not with the two texts that the schema asks for"}
    return {"supported": True, "detail": "the endpoint kept to the schema"}


def _structure_of_failure(probing: _Probing, error: DomainError) -> dict[str, Any]:
    """What a question with a schema tells that ended with `error`."""
    completion: Completion | None = getattr(error, "completion", None)
    if completion is not None and _SCHEMA_BEGUN.match(completion.text):
        return {"supported": True, "detail": "the endpoint kept to the schema until its tokens were used up"}
    if error.code == "endpoint_timeout":
        seconds = probing.model_spec.timeout_seconds
        return {"supported": None, "detail": f"no answer in {seconds} s, the endpoint's own deadline"}
    if error.code in ("endpoint_error_400", "endpoint_error_422"):
        return {"supported": False, "detail": str(error)}
    return {"supported": None, "detail": str(error)}
