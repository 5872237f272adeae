"""Photograph every annotator page of a running demo, in every locale, at 360 px and 1280 px, light (or dark).

    make demo                                            # in one terminal
    .venv/bin/python -m tests.browser.screenshots        # in another; pictures go to screenshots/

One new annotator per locale walks the whole journey, mistakes included; the pictures are named LOCALE-NUMBER-PAGE-WIDTH.png.
"""

import argparse
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from playwright.sync_api import Browser

from tests.browser.chromium import chromium
from tests.browser.journey import Walker

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (360, 1280)


def photograph(browser: Browser, *, tag: str, link: str, folder: Path, scheme: str) -> int:
    """Walk one journey and save each page. Returns the number of pictures."""
    context = browser.new_context(locale=tag, color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    page = context.new_page()
    pictures: list[Path] = []

    def look(name: str) -> None:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
            path = folder / f"{tag}-{len(pictures) // len(WIDTHS) + 1:02d}-{name}-{width}{'-dark' if scheme == 'dark' else ''}.png"
            page.screenshot(path=path, full_page=True)
            pictures.append(path)

    walker = Walker(page=page, language=tag.split("-")[0], look=look, mistakes=True)
    walker.walk(link)
    base = urlunsplit((*urlsplit(link)[:2], "", "", ""))
    page.locator("footer a[href*=resume]").click()
    look("resume")
    page.goto(f"{base}/task/leave/")
    look("leave")
    page.goto(f"{base}/join/unknown/")
    look("problem")
    context.close()
    return len(pictures)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="screenshots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=Path, default=ROOT / "var" / "demo.json", help="file with the links that `make demo` wrote")
    parser.add_argument("--base-url", help="where the demo answers, when it is not where its links say")
    parser.add_argument("--locale", action="append", help="only this locale, for example hi-IN; may be given several times")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--out", type=Path, default=ROOT / "screenshots")
    options = parser.parse_args(arguments)
    try:
        links = json.loads(options.links.read_text())["links"]
    except (OSError, ValueError, KeyError) as error:
        print(f"{options.links} holds no links ({error!r}). Start the demo with `make demo` first.", file=sys.stderr)
        return 1
    unknown = set(options.locale or []) - set(links)
    if unknown:
        print(f"No link for {', '.join(sorted(unknown))}; there are: {', '.join(links)}.", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for tag in options.locale or links:
            link = links[tag]
            if options.base_url:
                link = options.base_url.rstrip("/") + urlsplit(link).path
            count = photograph(browser, tag=tag, link=link, folder=options.out, scheme=options.scheme)
            print(f"{tag}: {count} pictures in {options.out}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
