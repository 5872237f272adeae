"""The banks are whole and balanced, and the endpoint answers in the right language and misbehaves on demand."""

import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import yaml
from django.utils import timezone

from apps.core.text import count_words, fingerprint
from apps.generation.methods.base import answers_format, parse_json, parse_marked
from apps.generation.models import RecipePart
from apps.generation.offline_endpoint.banks import BANKS_DIR, DRAWS, REFUSED_WORD
from apps.generation.services import Outcome, generate_set, request_candidate_set
from tests.endpoints import banks, wait_until
from tests.generation.conftest import PHONES_EN

LANGUAGES = ["en", "fr", "hi", "it", "pt"]
DOCUMENTS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in BANKS_DIR.glob("*.yaml")}
INSTRUCTIONS = {
    "en": "You answer a person's message in English. Write {count} different answers to the last message.",
    "fr": "Vous répondez en français au message d'une personne. Écrivez {count} réponses différentes au dernier message.",
    "hi": "आप एक व्यक्ति के संदेश का हिन्दी में जवाब देते हैं। आख़िरी संदेश के {count} अलग-अलग जवाब लिखें।",
    "it": "Risponda in italiano al messaggio di una persona. Scriva {count} risposte diverse all'ultimo messaggio.",
    "pt": "Você responde em português do Brasil à mensagem de uma pessoa. Escreva {count} respostas diferentes à última mensagem.",
}


def ask(endpoint, messages: list[tuple[str, str]], **fields) -> dict:
    body = {"model": "x", "messages": [{"role": role, "content": content} for role, content in messages], **fields}
    return post(f"{endpoint.url}/chat/completions", body)


def post(url: str, body: object, content_type: str = "application/json") -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": content_type})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
        return json.load(response)


def text_of(response: dict) -> str:
    return response["choices"][0]["message"]["content"]


def test_there_is_a_bank_for_each_language_with_the_same_prompts():
    assert sorted(DOCUMENTS) == LANGUAGES
    assert [document["language"] for name, document in sorted(DOCUMENTS.items())] == LANGUAGES
    keys = [set(document["answers"]) for document in DOCUMENTS.values()]
    assert all(len(key) == 12 and key == keys[0] for key in keys)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_prompt_has_four_distinct_answers_of_like_length_and_stated_values(language):
    for key, entry in DOCUMENTS[language]["answers"].items():
        answers = [*entry["negatively_correlated"], entry["default"]]
        assert len(answers) == 4, key
        assert len({fingerprint(answer["text"]) for answer in answers}) == 4, key
        lengths = [count_words(answer["text"]) for answer in answers]
        mean = sum(lengths) / 4
        assert all(60 <= length <= 120 for length in lengths), (key, lengths)
        assert all(abs(length - mean) <= 0.2 * mean for length in lengths), (key, lengths)
        for answer in answers:
            assert set(answer["values"]) == {"traditional_secular", "survival_self_expression"}, key
            assert all(0 <= value <= 1 for value in answer["values"].values()), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_answers_of_a_bank_are_the_same_and_offline_replies_are_marked(language):
    texts = []
    for entry in DOCUMENTS[language]["answers"].values():
        texts += [answer["text"] for answer in [*entry["negatively_correlated"], entry["default"]]]
    replies = DOCUMENTS[language]["offline_replies"]
    assert (len(replies["negatively_correlated"]), len(replies["default"])) == (6, 2)
    marked = [*replies["negatively_correlated"], *replies["default"]]
    assert len({reply.split(":")[0].strip() for reply in marked}) == 1
    assert len({fingerprint(text) for text in [*texts, *marked]}) == 48 + 8


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_known_prompt_gets_its_bank_however_it_is_spaced_and_cased(offline_endpoint, language):
    entry = DOCUMENTS[language]["answers"]["phones_at_dinner"]
    prompt = f"  {entry['prompt'].upper() if language != 'hi' else entry['prompt']}\n"
    system = INSTRUCTIONS[language].replace("{count}", "3") + " [[answer]]"
    answers = parse_marked(text_of(ask(offline_endpoint, [("system", system), ("user", prompt)])), count=3)
    assert answers == [answer["text"].strip() for answer in entry["negatively_correlated"]]
    balanced = text_of(ask(offline_endpoint, [("system", "Answer."), ("user", prompt)]))
    assert balanced == entry["default"]["text"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_other_message_gets_distinct_offline_replies_in_the_language_of_the_instruction(offline_endpoint, language):
    replies = DOCUMENTS[language]["offline_replies"]
    system = INSTRUCTIONS[language].replace("{count}", "4") + " [[answer]]"
    conversation = [("system", system), ("user", PHONES_EN), ("assistant", "Yes."), ("user", "ok?")]
    answers = parse_marked(text_of(ask(offline_endpoint, conversation)), count=4)
    assert set(answers) <= set(replies["negatively_correlated"])
    system = INSTRUCTIONS[language].replace("{count}", "1")
    assert text_of(ask(offline_endpoint, [("system", system), *conversation[1:]])) in replies["default"]


def test_a_message_always_gets_the_same_replies_and_messages_differ(offline_endpoint):
    system = INSTRUCTIONS["en"].replace("{count}", "3") + " [[answer]]"
    outputs = [text_of(ask(offline_endpoint, [("system", system), ("user", f"message {number}")])) for number in range(8)]
    assert len(set(outputs)) > 2
    assert text_of(ask(offline_endpoint, [("system", system), ("user", "message 0")])) == outputs[0]


def test_more_answers_than_written_are_filled_up_with_marked_replies_that_stay_distinct(offline_endpoint):
    system = INSTRUCTIONS["en"].replace("{count}", "5") + " [[answer]]"
    answers = parse_marked(text_of(ask(offline_endpoint, [("system", system), ("user", PHONES_EN)])), count=5)
    assert sum(answer.startswith("Offline demo reply") for answer in answers) == 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_draws_by_seed_are_all_written_answers_and_the_first_is_the_balanced_one(offline_endpoint, language):
    entry = DOCUMENTS[language]["answers"]["phones_at_dinner"]
    messages = [("system", "Answer."), ("user", entry["prompt"])]
    drawn = [text_of(ask(offline_endpoint, messages, temperature=0.7, seed=5 * DRAWS + number)) for number in range(4)]
    assert drawn[0] == entry["default"]["text"]
    assert sorted(drawn[1:]) == sorted(answer["text"] for answer in entry["negatively_correlated"])
    balanced = {text_of(ask(offline_endpoint, messages, **fields)) for fields in ({"temperature": 0, "seed": 3}, {"temperature": 1}, {})}
    assert balanced == {drawn[0]}


def test_draws_for_any_other_message_differ_too(offline_endpoint):
    messages = [("system", INSTRUCTIONS["en"]), ("user", "Something else?")]
    drawn = [text_of(ask(offline_endpoint, messages, temperature=1, seed=number * DRAWS + number)) for number in range(6)]
    assert len(set(drawn)) == 6


def test_the_protocol_reports_model_tokens_and_reason(offline_endpoint):
    response = ask(offline_endpoint, [("user", PHONES_EN)])
    assert response["model"] == "x"
    assert response["usage"]["prompt_tokens"] == len(PHONES_EN.split())
    assert response["usage"]["completion_tokens"] == len(text_of(response).split())
    assert response["choices"][0]["finish_reason"] == "stop"
    with urllib.request.urlopen(f"{offline_endpoint.url}/models", timeout=5) as models:  # noqa: S310
        assert json.load(models)["data"][0]["id"] == "polyphony-offline"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [([], "application/json", 400), ({"messages": "hello"}, "application/json", 400), ({"messages": []}, "text/plain", 415)],
)
def test_a_broken_request_is_told_so(offline_endpoint, body, content_type, status):
    with pytest.raises(urllib.error.HTTPError) as error:
        post(f"{offline_endpoint.url}/chat/completions", body, content_type)
    with error.value as answer:
        assert answer.code == status
        assert json.load(answer)["error"]["message"]


def test_the_switches_work_over_http_and_wear_off(offline_endpoint):
    control = offline_endpoint.url.replace("/v1", "/control")
    post(control, {"status": 503, "retry_after": 7, "times": 1, "reset": True})
    with pytest.raises(urllib.error.HTTPError) as error:
        ask(offline_endpoint, [("user", "hello")])
    with error.value as answer:
        assert (answer.code, answer.headers["Retry-After"]) == (503, "7")
    ask(offline_endpoint, [("user", "hello")])
    wait_until(lambda: offline_endpoint.in_flight == 0)
    with urllib.request.urlopen(control, timeout=5) as response:  # noqa: S310
        state = json.load(response)
    assert (state["calls"], state["in_flight"], state["switches"]["status"]) == (2, 0, 200)
    with pytest.raises(urllib.error.HTTPError) as error:
        post(control, {"mode": "nonsense"})
    error.value.close()


def test_it_runs_as_a_program_without_django_and_names_a_taken_port():
    code = """
import runpy, sys
sys.argv, sys.modules["django"] = ["offline_endpoint", "--port", "0"], None
runpy.run_module("apps.generation.offline_endpoint", run_name="__main__")
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        line = program.stdout.readline()
        assert "en, fr, hi, it, pt" in line
        url = next(word for word in line.split() if word.startswith("http"))
        with urllib.request.urlopen(url.replace("/v1", "/healthz"), timeout=5) as response:  # noqa: S310
            assert json.load(response) == {"status": "ok"}
        port = url.split(":")[2].split("/")[0]
        second = subprocess.run(
            [sys.executable, "-m", "apps.generation.offline_endpoint", "--port", port],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 1
        assert "Choose another --port" in second.stderr
        assert second.stderr.count("\n") == 1
    finally:
        program.terminate()
        program.wait(5)
        program.stdout.close()


def test_a_hanging_call_ends_when_the_switches_are_replaced(offline_endpoint):
    import threading

    offline_endpoint.set(hang=True, times=1)
    errors = []

    def call():
        try:
            ask(offline_endpoint, [("user", "hello")])
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: offline_endpoint.in_flight == 1)
    offline_endpoint.set()
    thread.join(5)
    assert errors
    assert banks().size == 60


def test_a_schema_gets_the_same_answers_as_json(offline_endpoint):
    system = f"{INSTRUCTIONS['en'].replace('{count}', '3')} Put a line [[answer]] before each."
    marked = parse_marked(text_of(ask(offline_endpoint, [("system", system), ("user", PHONES_EN)])), count=3)
    output = text_of(ask(offline_endpoint, [("system", system), ("user", PHONES_EN)], response_format=answers_format(3)))
    assert parse_json(output, count=3) == marked


def judged(endpoint, answer: str) -> dict:
    rubric = 'Answer with {"traditional_secular": 0.5, "survival_self_expression": 0.5}.'
    return ask(endpoint, [("system", rubric), ("user", json.dumps({"message": "m", "answer": answer}))])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_judge_gets_the_label_beside_the_text(offline_endpoint, language):
    for entry in DOCUMENTS[language]["answers"].values():
        for answer in [*entry["negatively_correlated"], entry["default"]]:
            response = judged(offline_endpoint, answer["text"])
            assert json.loads(text_of(response)) == answer["values"]
            assert response["model"] == "polyphony-offline"


def test_an_unknown_text_is_balanced_and_marked_so(offline_endpoint):
    response = judged(offline_endpoint, "Nobody wrote a label for this.")
    assert json.loads(text_of(response)) == {"traditional_secular": 0.5, "survival_self_expression": 0.5}
    assert response["model"] == "polyphony-offline-unlabelled"
    assert json.loads(text_of(ask(offline_endpoint, [("system", "traditional_secular survival_self_expression"), ("user", "[")])))


@pytest.mark.parametrize(("text", "allowed"), [("A quiet evening.", True), (f"The {REFUSED_WORD.upper()}!", False)])
def test_moderation_refuses_the_test_word_alone(offline_endpoint, text, allowed):
    instruction = 'Answer with {"allowed": true, "category": ""}.'
    verdict = json.loads(text_of(ask(offline_endpoint, [("system", instruction), ("user", json.dumps({"texts": [text]}))])))
    assert verdict == {"allowed": allowed, "category": "" if allowed else "test word"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "parts",
    [
        [("temperature", 4)],
        [("temperature", 3), ("default", 1)],
        [("default", 1), ("temperature", 3)],
        [("negatively_correlated", 2), ("temperature", 2)],
        [("negatively_correlated", 3), ("default", 1)],
    ],
)
@pytest.mark.parametrize("text", [PHONES_EN, "Something that no bank knows?"])
def test_a_recipe_with_independent_draws_is_made_at_the_first_try(offline_endpoint, study, recipe, parts, text):
    template = recipe.parts.get(method="default").template
    diverse = recipe.parts.get(method="negatively_correlated").template
    recipe.parts.all().delete()
    for order, (method, count) in enumerate(parts):
        RecipePart.objects.create(
            recipe=recipe,
            order=order,
            method=method,
            count=count,
            model_spec=study.model_specs.get(),
            template=diverse if method == "negatively_correlated" else template,
        )
    candidate_set = request_candidate_set(recipe=recipe, language="en", text=text)
    assert generate_set(candidate_set_id=candidate_set.pk, now=timezone.now()) == Outcome.READY
    assert candidate_set.attempts.filter(state="FAILED").count() == 0
    texts = dict(candidate_set.candidates.values_list("source", "text"))
    if text == PHONES_EN and parts[-1] == ("default", 1) and parts[0][0] == "negatively_correlated":
        assert texts["default"] == DOCUMENTS["en"]["answers"]["phones_at_dinner"]["default"]["text"]
