"""P9: before the choice nothing that reaches the browser tells which model or source a candidate has, and its place is chance.

Every name, id and slot that could give a candidate away is set to something that stands nowhere else; then each response of a
person's way (body, headers, cookies, addresses) is searched for them.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from django.conf import settings as project_settings
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client

from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.annotation.models import Turn
from apps.annotation.randomness import derive_seed, shuffled
from apps.annotation.services import seat_study
from apps.annotation.views import pages, task
from apps.annotators.models import Annotator
from apps.core.text import fingerprint
from apps.desk.simulation.pages import Page, parse_page
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, InstructionTemplate, ModelSpec, Recipe, RecipePart
from tests.annotation.fieldwork import NOW, REASON
from tests.factories import AnnotatorFactory, PromptFactory, StudyFactory

pytestmark = pytest.mark.django_db

FIRST_SLOT = 31_001
NAME = "zqxjkv"
ANSWERS = ["Put the phones away.", "Ask your children first.", "Write the rule down.", "Try it for one week."]
# Rows whose ids would give a candidate away, and from where on those ids are counted, so that they are like no other number.
IDS = {
    CandidateSet: 715_000_000,
    Candidate: 725_000_000,
    GenerationAttempt: 735_000_000,
    ModelSpec: 745_000_000,
    Recipe: 755_000_000,
    RecipePart: 765_000_000,
}


class Unblinded(AssertionError):
    """Something reached the browser that tells candidates apart."""


class Visitor:
    """An annotator at their browser. Every answer of the server is searched before anything else is done with it."""

    def __init__(self, annotator: Annotator) -> None:
        self.client = Client()
        session = self.client.session
        session[SESSION_ANNOTATOR] = annotator.pk
        session.save()
        self.visited: list[str] = []

    def open(self, path: str) -> Page:
        return self._follow(self.client.get(path))

    def submit(self, page: Page, **values: str) -> Page:
        assert page.form is not None, page.text
        return self._follow(self.client.post(page.url, {**page.form.untouched(), **values}))

    def _follow(self, response) -> Page:
        while True:
            self.visited.append(response.request["PATH_INFO"].strip("/").rpartition("/")[2])
            insist_blind(response)
            if response.status_code not in (302, 303):
                return parse_page(url=response.request["PATH_INFO"], status=response.status_code, body=response.content.decode())
            response = self.client.get(response.headers["Location"])


def secrets() -> dict[str, str]:
    """What must not be seen → what it is."""
    found = {"negatively_correlated": "method", "negatively-correlated": "method", NAME: "a name of the recipe or the model"}
    for model in IDS:
        found |= {str(pk): f"id of a {model.__name__}" for pk in model.objects.values_list("pk", flat=True)}
    found |= {str(slot): "generation slot" for slot in Candidate.objects.values_list("slot", flat=True)}
    for candidate_set in CandidateSet.objects.all():
        found |= {str(candidate_set.seed): "seed of a set", candidate_set.text_hash: "hash of a set"}
    found |= dict.fromkeys(Candidate.objects.values_list("text_fingerprint", flat=True), "fingerprint of a candidate")
    found |= {str(seed): "seed of an order" for seed in Turn.objects.values_list("display_seed", flat=True)}
    return found


def insist_blind(response) -> None:
    """Raise `Unblinded` if the response (address, status line, headers, cookies, body) holds a secret."""
    told = "\n".join(
        [
            response.request["PATH_INFO"],
            response.request.get("QUERY_STRING", ""),
            *(f"{name}: {value}" for name, value in response.headers.items()),
            response.cookies.output(),
            response.content.decode(),
        ]
    ).casefold()
    known = secrets()
    # A number counts where it stands by itself: the random letters and digits of a form's token may hold any.
    patterns = {rf"(?<![0-9a-z]){secret}(?![0-9a-z])" if secret.isdecimal() else re.escape(secret): secret for secret in known}
    leaks = {secret: known[secret] for pattern, secret in patterns.items() if re.search(pattern, told)}
    if leaks:
        raise Unblinded(f"{response.request['PATH_INFO']} tells {leaks}")


@pytest.fixture
def study():
    """An open study whose sets have telling names, ids and slots."""
    for model, first in IDS.items():
        count_ids_from(model, first)
    study = StudyFactory()
    study.model_specs.update(key=f"{NAME}-key", model=f"{NAME}-model-7b", base_url=f"https://{NAME}.example/v1", api_key_variable="ZQ_KEY")
    study.recipes.update(key=f"{NAME}-recipe")
    for template in InstructionTemplate.objects.filter(study=study):
        InstructionTemplate.objects.filter(pk=template.pk).update(key=f"{NAME}-template-{template.pk}")
    RecipePart.objects.filter(recipe__study=study, order=1).update(method="default")
    PromptFactory.create_batch(2, study=study)
    seat_study(study=study)
    fill_sets()
    return study


def count_ids_from(model: type, first: int) -> None:
    """Let the ids of new rows begin at `first`."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table, first])
        else:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, first])


def fill_sets() -> None:
    """Give every pending set its candidates, with attempts behind them and slots from `FIRST_SLOT` on."""
    for candidate_set in CandidateSet.objects.filter(state=CandidateSet.State.PENDING):
        parts = list(candidate_set.recipe.parts.all())
        for place, text in enumerate(ANSWERS):
            part = parts[place == len(ANSWERS) - 1]
            attempt = GenerationAttempt.objects.create(
                candidate_set=candidate_set, recipe_part=part, number=place + 1, template_hash=f"{NAME}-hash", parameters={}, started_at=NOW
            )
            slot = FIRST_SLOT + place
            Candidate.objects.create(
                candidate_set=candidate_set,
                slot=slot,
                text=text,
                text_fingerprint=f"{NAME}{fingerprint(text)}"[:64],
                source=f"{NAME}-{part.method}",
                model_spec=part.model_spec,
                attempt=attempt,
            )
        CandidateSet.objects.filter(pk=candidate_set.pk).update(state=CandidateSet.State.READY, ready_at=NOW)


@pytest.fixture
def visitor(study) -> Visitor:
    return Visitor(AnnotatorFactory(study=study, guideline_read_at=NOW))


def walk(visitor: Visitor) -> None:
    """From the practice through two turns: practice, start, compare, message, wait with its status, compare, message."""
    page = visitor.open("/task/practice/")
    for choice in ("0", "1"):
        if page.form is not None and page.form.cards:
            page = visitor.submit(page, choice=choice)
    page = visitor.open("/task/")
    page = visitor.submit(page)
    assert page.name == "compare"
    visitor.open("/task/compare/?source=default&order=slot")
    assert visitor.submit(page, choice="", explanation="").status == 422
    page = visitor.submit(page, choice="2", explanation=REASON)
    assert page.name == "message"
    page = visitor.submit(page, message="And if my children do not agree?", action="send")
    assert page.name == "wait"
    visitor.open("/task/wait/status/")
    fill_sets()
    visitor.open("/task/wait/status/")
    page = visitor.open("/task/wait/")
    assert page.name == "compare"
    page = visitor.submit(page, choice="0", explanation=REASON)
    visitor.open("/task/leave/")


def test_no_page_on_the_way_tells_where_a_candidate_comes_from(visitor):
    walk(visitor)
    assert {"practice", "start", "compare", "message", "wait", "status", "leave"} <= set(visitor.visited)
    assert Turn.objects.count() >= 2


def test_the_pages_that_ask_for_patience_tell_nothing_either(visitor, study):
    visitor.submit(visitor.open("/task/practice/"), choice="0")
    visitor.submit(visitor.open("/task/practice/"), choice="1")
    page = visitor.submit(visitor.open("/task/"))
    page = visitor.submit(page, choice="1", explanation=REASON)
    visitor.submit(page, message="And if my children do not agree?", action="send")
    CandidateSet.objects.filter(state=CandidateSet.State.PENDING).update(state=CandidateSet.State.FAILED, error_code=f"{NAME}-error")
    assert visitor.open("/task/").name == "trouble"
    visitor.open("/task/wait/status/")


def test_the_files_that_pages_name_tell_nothing(visitor):
    """Every address in a page is of our own few pages or static files; their names and the script know no source, model or slot."""
    visitor.submit(visitor.open("/task/practice/"), choice="0")
    visitor.submit(visitor.open("/task/practice/"), choice="1")
    page = visitor.submit(visitor.open("/task/"))
    addresses = set(re.findall(r'(?:href|src|action|data-[a-z]+)="([^"]*)"', page.body))
    static = {address for address in addresses if address.startswith(project_settings.STATIC_URL)}
    assert static
    for address in static:
        text = Path(finders.find(address.removeprefix(project_settings.STATIC_URL))).read_text(encoding="utf-8")
        for word in ("negatively", "candidate_set", "model_spec", "generation_slot"):
            assert word not in address
            assert word not in text
    others = {re.sub(r"/resume/.*", "/resume/", address) for address in addresses - static if address.startswith("/")}
    assert others <= {"/resume/", "/task/leave/", "/task/"}


def test_cards_differ_in_letter_and_text_alone(visitor):
    """With the letter, the position and the text taken out, all cards are the same markup."""
    visitor.submit(visitor.open("/task/practice/"), choice="0")
    visitor.submit(visitor.open("/task/practice/"), choice="1")
    page = visitor.submit(visitor.open("/task/"))
    cards = re.findall(r'<label class="card".*?</label>', page.body, re.DOTALL)
    assert len(cards) == 4
    bare = set()
    for place, card in enumerate(cards):
        text = next(answer for answer in ANSWERS if answer in card)
        bare.add(
            card.replace(text, "TEXT").replace(f"-{place}", "-N").replace(f'value="{place}"', "V").replace(f"Answer {'ABCD'[place]}", "L")
        )
    assert len(bare) == 1


# --- Sabotage: each leak is seen --------------------------------------------------------------------------------------


def leak_in_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's context knows the source, and the template prints it as part of the letter."""
    real = task.comparison_page

    def leaky(annotator, work):
        comparison = real(annotator, work)
        shown = work.turn.shown_candidates.select_related("candidate").order_by("position")
        cards = [replace(card, letter=f"{card.letter} {row.candidate.source}") for card, row in zip(comparison.cards, shown, strict=True)]
        return replace(comparison, cards=tuple(cards))

    monkeypatch.setattr(task, "comparison_page", leaky)


def leak_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form sends generation slots in place of positions."""
    real = task.comparison_page

    def leaky(annotator, work):
        comparison = real(annotator, work)
        return replace(comparison, cards=tuple(replace(card, position=FIRST_SLOT + card.position) for card in comparison.cards))

    monkeypatch.setattr(task, "comparison_page", leaky)


def leak_in_header(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pages.render

    def leaky(*arguments, **options):
        response = real(*arguments, **options)
        response.headers["X-Model"] = ModelSpec.objects.values_list("model", flat=True)[0]
        return response

    monkeypatch.setattr(pages, "render", leaky)


def leak_in_address(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pages.redirect

    def leaky(*arguments, **options):
        response = real(*arguments, **options)
        response.headers["Location"] += f"?set={CandidateSet.objects.values_list('pk', flat=True)[0]}"
        return response

    monkeypatch.setattr(pages, "redirect", leaky)


def leak_in_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "reverse", lambda name: f"/task/?candidate={Candidate.objects.values_list('pk', flat=True)[0]}")


@pytest.mark.parametrize("leak", [leak_in_template, leak_the_slot, leak_in_header, leak_in_address, leak_in_status])
def test_a_leak_is_seen(visitor, monkeypatch, leak: Callable[[pytest.MonkeyPatch], None]):
    leak(monkeypatch)
    with pytest.raises(Unblinded):
        walk(visitor)


# --- The order is chance, and stored ----------------------------------------------------------------------------------

DRAWS = 10_000
# Points of the χ² distribution that chance passes once in ten thousand: 9 degrees of freedom, and 23 (R: qchisq(0.9999, df)).
LIMIT_9, LIMIT_23 = 33.72, 55.81


def orders(draw: Callable[[list[int], int], list[int]]) -> Iterator[list[int]]:
    """The display orders of 10,000 turns: people with seeds of their own, on several conversations and turns."""
    for number in range(DRAWS):
        person, rest = divmod(number, 8)
        conversation, turn = divmod(rest, 4)
        yield draw([0, 1, 2, 3], derive_seed(person, "display", conversation, turn + 1))


def chi_square_of_positions(drawn: list[list[int]]) -> float:
    """χ² of position × slot against equal shares; 9 degrees of freedom for four candidates."""
    counts = Counter((position, slot) for order in drawn for position, slot in enumerate(order))
    expected = len(drawn) / 4
    return sum((counts[position, slot] - expected) ** 2 / expected for position in range(4) for slot in range(4))


def chi_square_of_orders(drawn: list[list[int]]) -> float:
    """χ² of the 24 orders against equal shares; 23 degrees of freedom."""
    counts = Counter(tuple(order) for order in drawn)
    expected = len(drawn) / 24
    return sum((counts[order] - expected) ** 2 / expected for order in permutations(range(4)))


def test_every_slot_stands_equally_often_in_every_position():
    drawn = list(orders(shuffled))
    assert len(drawn) == DRAWS
    assert chi_square_of_positions(drawn) < LIMIT_9
    assert chi_square_of_orders(drawn) < LIMIT_23


def naive(items: list[int], seed: int) -> list[int]:
    """The well-known wrong shuffle, which swaps every place with any other."""
    order, rng = list(items), random.Random(seed)
    for place in range(len(order)):
        other = rng.randrange(len(order))
        order[place], order[other] = order[other], order[place]
    return order


def lazy(items: list[int], seed: int) -> list[int]:
    """One of four rotations: fair to every position, and yet neighbours always stay neighbours."""
    start = seed % len(items)
    return items[start:] + items[:start]


def test_a_shuffle_that_favours_a_place_or_an_order_is_seen():
    assert chi_square_of_positions(list(orders(naive))) > LIMIT_9
    assert chi_square_of_positions([[0, 1, 2, 3]] * DRAWS) > LIMIT_9
    assert chi_square_of_orders(list(orders(lazy))) > LIMIT_23


def test_the_order_on_the_page_is_the_one_that_the_stored_seed_draws(visitor):
    walk(visitor)
    seeds = set()
    for turn in Turn.objects.filter(shown_at__isnull=False):
        shown = list(turn.shown_candidates.order_by("position").values_list("candidate__slot", flat=True))
        assert shown == shuffled(sorted(shown), turn.display_seed)
        seeds.add(turn.display_seed)
    assert len(seeds) == Turn.objects.filter(shown_at__isnull=False).count() >= 2
