"""Sampling methods: what each asks of whom, and how its outputs are read. One test per method, then what they share."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.core.text import text_hash
from apps.generation import client
from apps.generation.acceptance import AnswerRefused
from apps.generation.methods import METHODS, Call, InstructionMissing, RecipeIncomplete, fit_context
from apps.generation.methods.base import answers_format
from apps.generation.models import InstructionTemplate, ModelSpec, RecipePart, RecipePartVariant
from apps.generation.services import Outcome, generate_set, request_candidate_set
from tests.factories import ModelSpecFactory
from tests.generation.conftest import PHONES_EN
from tests.generation.test_reviewing import BY_HAND

FIRST = "Eat together without phones, and let the children choose what you talk about."
SECOND = "Do not forbid anything. Ask them what they are reading, and show them what you read."
ASKED = [{"role": "user", "content": "Should I forbid phones at the table?"}]


@pytest.fixture
def part(recipe) -> RecipePart:
    """A part of two answers by the study's model, of no method in particular."""
    part = recipe.parts.get(method="default")
    part.count, part.temperature = 2, 0.7
    part.save()
    return part


def vary(part: RecipePart, *variants: dict) -> None:
    for order, variant in enumerate(variants, start=1):
        RecipePartVariant.objects.create(recipe_part=part, order=order, **variant)


def test_every_method_of_a_part_has_its_class():
    assert set(METHODS) == set(RecipePart.Method.values)


def test_negatively_correlated_asks_once_for_all_and_reads_what_follows_each_marker(part):
    method = METHODS["negatively_correlated"]
    [call] = method.calls(part)
    assert call == Call(2, part.model_spec, part.template, 0.7)
    assert method.response_format(call) is None
    assert method.parse(f"Here they are.\n[[answer]]\n{FIRST}\n[[answer]]\n{SECOND}", call=call) == [FIRST, SECOND]


def test_negatively_correlated_asks_for_json_where_the_endpoint_supports_it(part):
    part.model_spec.structured_output = True
    method = METHODS["negatively_correlated"]
    [call] = method.calls(part)
    schema = method.response_format(call)["json_schema"]["schema"]
    assert schema["properties"]["answers"] == {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
    assert 'JSON: {"answers": ["…", "…"]}' in method.messages(call, language="en", conversation=ASKED)[0]["content"]
    assert method.parse(json.dumps({"answers": [FIRST, SECOND]}), call=call) == [FIRST, SECOND]
    assert method.parse(json.dumps({"answers": [f"[[answer]]\n{FIRST}", f"2. {SECOND}"]}), call=call) == [FIRST, SECOND]
    assert method.parse(f"```json\n{json.dumps({'answers': [FIRST, SECOND]})}\n```", call=call) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("no json", "malformed_json"),
        ("{", "malformed_json"),
        ("[]", "malformed_json"),
        ("null", "malformed_json"),
        ('{"answers": "one"}', "malformed_json"),
        ('{"answers": [1, 2]}', "malformed_json"),
        ('{"answers": {"1": "one"}}', "malformed_json"),
        ("[" * 100_000, "malformed_json"),
        (json.dumps({"answers": [FIRST]}), "wrong_count"),
        (json.dumps({"answers": [FIRST, ""]}), "empty_answer"),
        (json.dumps({"answers": [FIRST, FIRST]}), "duplicate_answers"),
        (json.dumps({"answers": [FIRST, SECOND, "And a third one."]}), "wrong_count"),
        (f"[[answer]]\n{FIRST}\n[[answer]]\n{SECOND}", "malformed_json"),
    ],
)
def test_a_bad_structured_output_is_refused_with_its_reason(part, output, code):
    part.model_spec.structured_output = True
    method = METHODS["negatively_correlated"]
    with pytest.raises(AnswerRefused) as refused:
        method.parse(output, call=method.calls(part)[0])
    assert refused.value.code == code


def test_default_asks_independently_for_each_answer(part):
    method = METHODS["default"]
    assert method.calls(part) == [Call(1, part.model_spec, part.template, 0.7)] * 2
    assert method.parse(f"Answer 1: {FIRST}", call=method.calls(part)[0]) == [FIRST]


def test_temperature_draws_each_answer_at_the_temperature_of_the_part(part):
    part.temperature = 1.3
    method = METHODS["temperature"]
    assert [(call.count, call.temperature) for call in method.calls(part)] == [(1, 1.3), (1, 1.3)]
    part.model_spec.structured_output = True
    call = method.calls(part)[0]
    assert method.response_format(call) is None  # one answer needs no format, so the baseline stays what the model would say
    assert method.parse(SECOND, call=call) == [SECOND]


def test_multi_model_asks_the_model_of_each_variant_with_the_same_instruction(part):
    second = ModelSpecFactory(study=part.recipe.study, key="second", model="m-2")
    vary(part, {"model_spec": second}, {"model_spec": part.model_spec})
    calls = METHODS["multi_model"].calls(part)
    assert [(call.count, call.model_spec.key, call.template) for call in calls] == [
        (1, "second", part.template),
        (1, "offline", part.template),
    ]
    assert METHODS["multi_model"].parse(FIRST, call=calls[0]) == [FIRST]


def test_persona_gives_each_answer_the_instruction_of_its_variant(part):
    study = part.recipe.study
    nurse = InstructionTemplate.objects.create(study=study, key="nurse", text_en="Answer as a nurse.", text_fr="Répondez en infirmière.")
    farmer = InstructionTemplate.objects.create(study=study, key="farmer", text_en="Answer as a farmer.", text_fr="Répondez en paysan.")
    vary(part, {"template": nurse}, {"template": farmer})
    method = METHODS["persona"]
    told = [method.messages(call, language="fr", conversation=ASKED)[0]["content"] for call in method.calls(part)]
    assert told == ["Répondez en infirmière.", "Répondez en paysan."]
    assert all(call.model_spec == part.model_spec for call in method.calls(part))


@pytest.mark.parametrize("key", ["multi_model", "persona"])
def test_a_part_without_a_variant_for_each_answer_is_refused(part, key):
    vary(part, {"model_spec": part.model_spec})
    with pytest.raises(RecipeIncomplete, match="1 variants instead of 2"):
        METHODS[key].calls(part)


@pytest.mark.parametrize("key", sorted(METHODS))
def test_the_calls_of_a_method_add_up_to_the_count_of_the_part(part, key):
    vary(part, {"model_spec": part.model_spec}, {"model_spec": part.model_spec})
    assert sum(call.count for call in METHODS[key].calls(part)) == part.count


def test_the_instruction_is_in_the_language_of_the_set_and_opens_the_conversation(part):
    method = METHODS["negatively_correlated"]
    [call] = method.calls(part)
    talk = [*ASKED, {"role": "assistant", "content": FIRST}, {"role": "user", "content": "And at breakfast?"}]
    messages = method.messages(call, language="fr", conversation=talk)
    assert messages == [{"role": "system", "content": call.template.text_fr.replace("{count}", "2")}, *talk]
    with pytest.raises(InstructionMissing):
        method.messages(call, language="hi", conversation=talk)


def test_the_format_asks_for_a_strict_schema():
    wanted = answers_format(3)
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["strict"] is True
    assert wanted["json_schema"]["schema"]["required"] == ["answers"]


# --- The context of later turns -----------------------------------------------------------------------------------------


def talk(*, exchanges: int, length: int) -> list[dict[str, str]]:
    history = [
        {"role": role, "content": f"{number}{role}".ljust(length, "x")} for number in range(exchanges) for role in ("user", "assistant")
    ]
    return [{"role": "system", "content": "s" * length}, *history, {"role": "user", "content": "u" * length}]


def test_a_conversation_that_fits_is_sent_whole():
    messages = talk(exchanges=3, length=100)
    assert fit_context(messages, max_characters=800) == (messages, 0)


def test_the_oldest_exchanges_go_first_and_always_both_sides():
    messages = talk(exchanges=3, length=100)
    assert fit_context(messages, max_characters=799) == ([messages[0], *messages[3:]], 1)
    assert fit_context(messages, max_characters=400) == ([messages[0], *messages[5:]], 2)


def test_the_instruction_and_the_last_message_stay_however_long_they_are():
    messages = talk(exchanges=2, length=100)
    assert fit_context(messages, max_characters=10) == ([messages[0], messages[-1]], 2)
    assert fit_context([messages[-1]], max_characters=10) == ([messages[-1]], 0)


@given(st.integers(0, 6), st.integers(1, 50), st.integers(0, 800))
def test_what_is_sent_keeps_its_order_and_opens_with_the_persons_words(exchanges, length, max_characters):
    messages = talk(exchanges=exchanges, length=length)
    kept, dropped = fit_context(messages, max_characters=max_characters)
    assert kept == [messages[0], *messages[1 + 2 * dropped :]]
    assert [message["role"] for message in kept[:2]] == ["system", "user"]
    assert dropped == exchanges or sum(len(message["content"]) for message in kept) <= max_characters


# --- Through the endpoint -------------------------------------------------------------------------------------------------


class _EveryAnswerDiffers(BaseHTTPRequestHandler):
    """An endpoint that never gives one answer twice, since the bundled one has a single balanced answer to a message."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        place = (len(self.server.asked) - 1) % len(BY_HAND)
        answer = {"model": f"{body['model']}-2026", "choices": [{"message": {"content": BY_HAND[place]}, "finish_reason": "stop"}]}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(settings) -> Iterator[HTTPServer]:
    """`asked`: the bodies of the requests so far."""
    server = HTTPServer(("127.0.0.1", 0), _EveryAnswerDiffers)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    settings.OFFLINE_ENDPOINT_URL = f"http://127.0.0.1:{server.server_port}/v1"
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    yield server
    client.close_clients()
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.parametrize("method", ["default", "temperature", "multi_model", "persona"])
def test_a_set_of_single_answers_is_made_whole_and_tells_how(study, recipe, endpoint, method):
    recipe.parts.exclude(method="default").delete()
    recipe.parts.update(method=method, count=4, temperature="1.2")
    names = [f"voice-{number}" for number in range(4)]
    for number, name in enumerate(names if method in ("multi_model", "persona") else []):
        told = {"text_en": f"Answer in English as {name}.", "text_fr": f"Répondez en français comme {name}."}
        RecipePartVariant.objects.create(
            recipe_part=recipe.parts.get(),
            order=number,
            model_spec=ModelSpecFactory(study=study, key=name, model=name) if method == "multi_model" else None,
            template=InstructionTemplate.objects.create(study=study, key=name, **told) if method == "persona" else None,
        )
    candidate_set = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    assert generate_set(candidate_set_id=candidate_set.pk, now=timezone.now()) == Outcome.READY
    candidates = list(candidate_set.candidates.select_related("attempt", "model_spec"))
    assert [candidate.text for candidate in candidates] == BY_HAND
    assert {candidate.source for candidate in candidates} == {method}
    assert {asked["temperature"] for asked in endpoint.asked} == {1.2}
    assert len({asked["seed"] for asked in endpoint.asked}) == 4
    models = names if method == "multi_model" else ["polyphony-offline"] * 4
    assert [asked["model"] for asked in endpoint.asked] == models
    assert [candidate.model_spec.model for candidate in candidates] == models
    assert [candidate.attempt.model_answered for candidate in candidates] == [f"{model}-2026" for model in models]
    if method == "persona":
        told = [f"Answer in English as {name}." for name in names]
        assert [asked["messages"][0]["content"] for asked in endpoint.asked] == told
        assert [candidate.attempt.template_hash for candidate in candidates] == [text_hash(text) for text in told]


@pytest.mark.parametrize("structured", [False, True])
def test_a_negatively_correlated_set_is_made_in_one_call_with_or_without_json(study, recipe, offline_endpoint, structured):
    recipe.parts.exclude(method="negatively_correlated").delete()
    ModelSpec.objects.filter(study=study).update(structured_output=structured)
    candidate_set = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    assert generate_set(candidate_set_id=candidate_set.pk, now=timezone.now()) == Outcome.READY
    [attempt] = candidate_set.attempts.all()
    assert attempt.raw_output.startswith("{") is structured
    assert attempt.parameters["structured_output"] is structured
    assert candidate_set.candidates.count() == 3
