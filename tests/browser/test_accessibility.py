"""axe finds nothing, in light and in dark, on any page a person can meet."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from apps.annotators.models import RecruitmentLink
from apps.generation.models import CandidateSet
from apps.studies.models import Study
from tests.browser.journey import Walker
from tests.browser.stage import demo_study, link_to

RULES = {
    "light": {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}},  # only colours differ
}


def problems(page: Page, name: str) -> list[str]:
    """What axe finds on the page as it is, in both colour schemes."""
    found = []
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for violation in Axe().run(page, options=rules).response["violations"]:
            places = [" ".join(node["target"]) for node in violation["nodes"]]
            found.append(f"{name}, {scheme}: {violation['id']} ({violation['help']}) at {places[:3]}")
    return found


def test_axe_finds_nothing_on_the_whole_journey(page, live_server, worker) -> None:
    demo_study("fr")
    found: list[str] = []
    walker = Walker(page=page, language="fr", look=lambda name: found.extend(problems(page, name)), mistakes=True)

    walker.walk(link_to(live_server.url, "fr-FR"))
    for name, selector in [("resume", "footer a[href*=resume]"), ("leave", "footer a[href*=leave]")]:
        page.goto(f"{live_server.url}/task/done/")
        page.locator(selector).click()
        found.extend(problems(page, name))
    page.locator("main form button").click()
    found.extend(problems(page, "ended"))
    page.goto(f"{live_server.url}/join/unknown/")
    found.extend(problems(page, "problem"))

    assert len(set(walker.seen)) >= 18
    assert found == []


def test_axe_finds_nothing_on_a_hindi_comparison(page, live_server, worker) -> None:
    demo_study("hi")
    Walker(page=page, language="hi").walk(link_to(live_server.url, "hi-IN"), until="compare")

    assert problems(page, "compare") == []
    assert page.evaluate("document.fonts.check('16px \"Noto Sans Devanagari Variable\"', 'हिन्दी')")


def test_axe_finds_nothing_where_the_answers_could_not_be_written(page, live_server, offline_endpoint) -> None:
    demo_study("en")
    Walker(page=page, language="en").walk(link_to(live_server.url, "en-US"), until="wait")
    found = problems(page, "wait")
    CandidateSet.objects.filter(is_live=True).update(state=CandidateSet.State.FAILED)
    page.wait_for_url("**/task/trouble/")
    found.extend(problems(page, "trouble"))

    assert found == []


def test_axe_finds_nothing_where_there_is_nothing_to_do_or_the_study_rests(page, live_server, offline_endpoint) -> None:
    study = demo_study("en")
    link = RecruitmentLink.objects.get(name="en-US")
    link.locales.set(study.locales.filter(country="IN"))
    found = []
    page.goto(link_to_all := f"{live_server.url}/join/{link.token}/")
    found.extend(problems(page, "choose_locale"))
    page.goto(f"{link_to_all}?locale=fr-FR")
    found.extend(problems(page, "choose_locale-unknown"))
    walker = Walker(page=page, language="en")
    walker.walk(f"{link_to_all}?locale=en-IN", until="start")
    study.recipes.get().slots.all().delete()
    page.locator("main form button").click()
    assert page.url.endswith("/start/")
    found.extend(problems(page, "start-no-work"))
    Study.objects.update(state=Study.State.PAUSED)
    page.goto(f"{live_server.url}/task/")
    assert page.url.endswith("/paused/")
    found.extend(problems(page, "paused"))

    assert found == []


def test_axe_would_tell(page, live_server, transactional_db) -> None:
    """The control: a field without a name and text that is too faint in the dark are reported."""
    page.goto(f"{live_server.url}/join/unknown/")
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<input>')")
    page.evaluate("document.querySelector('h1').style.color = '#444'")

    found = problems(page, "control")
    assert any(problem.startswith("control, light: label") for problem in found)
    assert any(problem.startswith("control, dark: color-contrast") for problem in found)
