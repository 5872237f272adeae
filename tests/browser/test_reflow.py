"""No page is wider than the smallest screen, in any language."""

import pytest

from tests.browser.journey import Walker
from tests.browser.stage import demo_study, link_to

WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# The gate looks at one language in Devanagari and one in Latin letters; the others wait for the night.
OTHERS = ["en-US", "en-IN", "it-IT", "pt-BR"]


@pytest.mark.parametrize("tag", ["hi-IN", "fr-FR", *(pytest.param(tag, marks=pytest.mark.nightly) for tag in OTHERS)])
def test_nothing_scrolls_sideways_on_a_phone(tag: str, page, live_server, worker) -> None:
    language = tag.split("-")[0]
    demo_study(language)
    wide: list[str] = []

    def look(name: str) -> None:
        for width in (320, 360):
            page.set_viewport_size({"width": width, "height": 640})
            if page.evaluate(WIDER) > 0:
                wide.append(f"{name} at {width}")

    walker = Walker(page=page, language=language, look=look, mistakes=True)
    walker.walk(link_to(live_server.url, tag))

    assert len(set(walker.seen)) >= 18
    assert wide == []


def test_the_check_would_see_a_page_that_is_too_wide(page, live_server, transactional_db) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(f"{live_server.url}/join/unknown/")
    assert page.evaluate(WIDER) == 0
    page.evaluate("document.querySelector('h1').style.width = '400px'")
    assert page.evaluate(WIDER) > 0
