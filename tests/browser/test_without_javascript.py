"""JavaScript is a convenience: the whole journey works without it."""

from apps.annotation.models import ComparisonItem, Turn
from apps.annotators.models import Annotator
from tests.browser.journey import Walker
from tests.browser.stage import demo_study, link_to


def test_the_journey_works_with_javascript_switched_off(browser, live_server, worker) -> None:
    demo_study("fr")
    context = browser.new_context(locale="fr-FR", java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    reason_was_there = []

    def look(name: str) -> None:
        if name == "compare":
            reason_was_there.append(page.locator("#explanation").is_visible())

    walker = Walker(page=page, language="fr", turns=2, pick=lambda made: 3 - made, look=look, mistakes=True)

    walker.walk(link_to(live_server.url, "fr-FR"))
    context.close()

    assert reason_was_there == [True]
    assert Annotator.objects.get().state == Annotator.State.COMPLETED
    for turn, choice in zip(Turn.objects.order_by("number"), walker.choices, strict=True):
        best = ComparisonItem.objects.get(comparison__turn=turn, rank=1).shown_candidate
        assert (best.position, best.text) == (choice.chosen, choice.texts[choice.chosen])
        assert turn.layout == ""
