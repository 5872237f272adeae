"""From an annotator's click to the answers on the screen of a real browser: `python -m benchmarks.on_screen [--turns 40]`.

Each turn opens the message page in Chromium with JavaScript, sends a message, and waits until every card is laid out and a frame with
them is drawn. gunicorn, one worker and a stub serve it. The stub takes 1 to 1.5 s for each of a set's two calls, spread evenly over the
turns, so that sets become READY at every moment between two questions of the waiting page. Printed are the time from the click, less
the endpoint's, and the time from READY (`CandidateSet.ready_at`): median, 95th percentile and highest.
Needs Chromium, DATABASE_URL (PostgreSQL; a database of its own is made beside it) and REDIS_URL (emptied of our queues).
"""

# ruff: noqa: E402  (Django is set up before its models are imported)
import argparse
import math
import os
import statistics

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright runs an event loop in this thread, which Django takes for asynchronous code

import django

django.setup()

from django.conf import settings
from django.db import connection
from django.urls import reverse
from playwright.sync_api import Browser

from apps.generation.models import CandidateSet
from benchmarks.live_turn import CALLS_PER_SET, writing_client
from benchmarks.stage import StubEndpoint, own_database, stub, web, worker
from tests.browser.chromium import chromium

CARDS = 4
# Notes the two moments in the tab. The second frame after the cards are laid out begins when the first is drawn.
WATCH = f"""
addEventListener("submit", () => sessionStorage.setItem("sent", Date.now()));
const look = () => {{
  const cards = Array.from(document.querySelectorAll("#comparison .card"));
  const shown = cards.length === {CARDS} && cards.every((card) => card.checkVisibility() && card.offsetHeight > 0);
  requestAnimationFrame(shown ? () => sessionStorage.setItem("shown", Date.now()) : look);
}};
if (location.pathname.endsWith("/compare/")) requestAnimationFrame(look);
"""


def one_turn(browser: Browser, base: str, endpoint: StubEndpoint, *, latency: float, number: int) -> tuple[float, float]:
    """Milliseconds until the cards are on the screen: from the click, less the endpoint's, and from READY."""
    endpoint.latency = latency
    study, client = writing_client(endpoint.url)
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value, "url": base}])
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(base + reverse("annotation:message"))
    page.locator("#message").fill(f"And what if it rains on day {number}?")
    page.locator("[value=send]").click()
    page.wait_for_url("**/compare/", timeout=60_000)
    page.wait_for_function("sessionStorage.getItem('shown')")
    sent, shown = (int(page.evaluate("name => sessionStorage.getItem(name)", name)) for name in ("sent", "shown"))
    context.close()
    ready_at = CandidateSet.objects.get(recipe__study=study, is_live=True).ready_at
    return shown - sent - CALLS_PER_SET * latency * 1000, shown - ready_at.timestamp() * 1000


def summary(times: list[float]) -> str:
    ordered = sorted(times)
    high = ordered[math.ceil(len(ordered) * 0.95) - 1]
    return f"{statistics.median(ordered):.0f} ms at the median, {high:.0f} ms at the 95th percentile, {ordered[-1]:.0f} ms at most"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    turns = parser.parse_args().turns
    with (
        own_database() as database,
        stub(latency=1, places=32) as endpoint,
        worker(database, threads=8),
        web(database) as base,
        chromium() as browser,
    ):
        for number in range(4):  # worker, web processes and browser start, import and load
            one_turn(browser, base, endpoint, latency=1, number=number)
        times = [one_turn(browser, base, endpoint, latency=1 + 0.5 * turn / turns, number=100 + turn) for turn in range(turns)]
        print(f"{turns} live turns until the answers are on the screen")
        print(f"from the click, less the endpoint's time: {summary([added for added, _ in times])}")
        print(f"from READY: {summary([after for _, after in times])} (wanted: 1000 ms)")
        connection.close()


if __name__ == "__main__":
    main()
