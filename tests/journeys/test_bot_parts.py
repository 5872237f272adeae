"""The parts of a synthetic annotator that need no server."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from apps.annotation.language import detect_language
from apps.core.text import count_words
from apps.desk.simulation.bot import Journey, Outcome, SeenConversation, SeenTurn
from apps.desk.simulation.crowd import report, table
from apps.desk.simulation.pages import Card, parse_page
from apps.desk.simulation.phrases import Writer, phrases_in
from apps.desk.simulation.policies import POLICIES

TAGS = ("en-US", "en-IN", "fr-FR", "it-IT", "pt-BR", "hi-IN")
PAGE = """<!doctype html><html lang="fr-FR"><body><nav><form method="get"><input name="q"></form></nav>
<main><h1>Une <em>page</em></h1><div role="alert"><p>Il manque &amp; quoi</p></div>
<form method="post" action="/ici/">
<input type="hidden" name="id" value="7"><input type="text" name="year" value="1980">
<label><input type="checkbox" name="year" value="prefer_not_to_say"> Non</label>
<label><input type="radio" name="one" value="a"> Premier</label><label><input type="radio" name="one" value="b" checked> Second</label>
<select name="place"><option value="">-</option><option value="x" selected>Ici</option></select>
<label><input type="checkbox" checked> sans nom</label>
<textarea name="why" data-minimum="12">
un &lt;b&gt;
deux</textarea>
<button type="submit" name="action" value="go">Go</button></form>
<a href="/plus/">Plus</a></main><footer><a href="/resume/abc/">Lien</a></footer></body></html>"""


def test_a_page_is_read_as_a_browser_would_send_it():
    page = parse_page(url="http://host/task/questions/?x=1", status=200, body=PAGE)
    assert (page.name, page.language, page.heading, page.problem) == ("questions", "fr-FR", "Une page", "Il manque & quoi")
    assert page.form.action == "/ici/"
    assert page.form.untouched() == {"id": ["7"], "year": ["1980"], "one": ["b"], "place": ["x"], "why": ["un <b>\ndeux"]}
    assert [option.label for option in page.form.fields["one"].options] == ["Premier", "Second"]
    assert page.form.fields["year"].typed_beside
    assert page.form.fields["why"].minimum_words == 12
    assert page.form.button("action", "go")
    assert page.links == ["/plus/"]
    assert page.link_to("/resume/") == "/resume/abc/"


@pytest.mark.parametrize("tag", TAGS)
def test_what_is_written_is_long_enough_in_the_right_language_and_never_the_same_twice(tag):
    writer = Writer(phrases_in(tag), random.Random(3))
    last = ""
    for _ in range(200):
        text = writer.explanation(chosen="B", other="D", minimum_words=15)
        assert count_words(text) >= 15
        assert detect_language(text) == tag[:2]
        assert "B" in text
        assert "D" in text
        assert "{" not in text
        assert text != last
        last = text
    assert count_words(writer.explanation(chosen="A", other="B", minimum_words=90)) >= 85
    for draw in (writer.follow_up, writer.opening):
        texts = [draw() for _ in range(60)]
        assert all(first != second for first, second in pairwise(texts))
        assert {detect_language(text) for text in texts} == {tag[:2]}


def cards(*texts: str) -> tuple[Card, ...]:
    return tuple(Card(position=place, value=str(place), letter="ABCD"[place], text=text) for place, text in enumerate(texts))


@pytest.mark.parametrize(("policy", "letter"), [("slot_a", "A"), ("last", "D"), ("longest", "C"), ("shortest", "B")])
def test_a_policy_picks_what_its_name_says(policy, letter):
    assert POLICIES[policy](cards("four", "x", "the longest", "three"), random.Random(1)).letter == letter


def test_random_is_even_and_primacy_favours_the_first_twofold():
    four, rng = cards("a", "b", "c", "d"), random.Random(1)
    even = Counter(POLICIES["random"](four, rng).letter for _ in range(4000))
    assert all(900 < count < 1100 for count in even.values())
    first = Counter(POLICIES["primacy"](four, rng).letter for _ in range(5000))
    assert 1850 < first["A"] < 2150


def test_the_table_counts_per_locale_and_in_all():
    pair = cards("one", "two")
    turns = [SeenTurn(number=1, message="?", cards=pair, chosen=card, explanation="", seconds=1) for card in (*pair, pair[0])]
    journeys = [
        Journey(1, "fr-FR", Outcome.COMPLETED, joined=True, conversations=[SeenConversation(turns)], seconds=10),
        Journey(2, "fr-FR", Outcome.COMPLETED, joined=True, seconds=20),
        Journey(3, "hi-IN", Outcome.QUOTA_FULL, joined=True, seconds=3),
        Journey(4, "hi-IN", Outcome.SCREENED_OUT, joined=True),
        Journey(5, "hi-IN", Outcome.STUCK, "nobody home"),
    ]
    lines = table(report(journeys)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["fr-FR", "2", "2", "0", "0", "0", "1", "3", "A", "2", "B", "1", "15.0"],
        ["hi-IN", "2", "0", "1", "1", "1", "0", "0", "–", "–"],
        ["all", "4", "2", "1", "1", "1", "1", "3", "A", "2", "B", "1", "15.0"],
    ]
    assert len({len(line) for line in lines}) == 1
