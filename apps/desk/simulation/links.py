"""Where synthetic annotators find the recruitment links: a JSON file, never the database.

{"study": "community-alignment", "base_url": "http://127.0.0.1:8000",
 "links": {"fr-FR": "http://127.0.0.1:8000/join/TOKEN/"}}
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit


class LinksProblem(Exception):
    """The links cannot be used; says why and what to do."""


@dataclass(frozen=True)
class Links:
    """One recruitment link per locale tag."""

    study: str
    by_tag: dict[str, str]


def read_links(path: Path, *, study: str, base_url: str = "", tags: Sequence[str] = ()) -> Links:
    """The links of `study` in `path`, moved to the scheme and host of `base_url` and reduced to `tags` where given.

    Raises `LinksProblem`.
    """
    make = f"Start the demo (make demo), or write the file with: manage.py recruitment_links {study} > {path.name}"
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise LinksProblem(f"There is no file {path}. {make}") from None
    except (OSError, ValueError) as error:
        raise LinksProblem(f"{path} is not a readable JSON file: {error}. {make}") from None
    links = data.get("links") if isinstance(data, dict) else None
    if not isinstance(links, dict) or not links or not all(isinstance(link, str) for link in links.values()):
        raise LinksProblem(f"{path} holds no recruitment links (key “links”). {make}")
    if data.get("study") != study:
        raise LinksProblem(f"{path} holds the links of the study {data.get('study')!r}, not of {study!r}. {make}")
    unknown = [tag for tag in tags if tag not in links]
    if unknown:
        raise LinksProblem(f"{path} has no link for {', '.join(unknown)}; it has {', '.join(links)}.")
    base = base_url or str(data.get("base_url") or "")
    return Links(study=study, by_tag={tag: _moved(link, base) for tag, link in links.items() if tag in tags or not tags})


def _moved(link: str, base_url: str) -> str:
    if not base_url:
        return link
    base = urlsplit(base_url)
    if base.scheme not in ("http", "https") or not base.netloc:
        raise LinksProblem(f"The base URL {base_url!r} should look like http://127.0.0.1:8000")
    return urlunsplit(urlsplit(link)._replace(scheme=base.scheme, netloc=base.netloc))
