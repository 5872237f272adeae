"""Sampling methods: what each asks of whom, and how its outputs are read. One test per method, then what they share."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.generation.acceptance import AnswerRefused
from apps.generation.methods import METHODS, Call, InstructionMissing, RecipeIncomplete, fit_context
from apps.generation.methods.base import answers_format
from apps.generation.models import InstructionTemplate, RecipePart, RecipePartVariant
from tests.factories import ModelSpecFactory

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
