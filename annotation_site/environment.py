"""Strict reading of settings from environment variables.

Every reader raises `ImproperlyConfigured` naming the variable, what it held and what was expected:
a typo must stop the process, never switch a default on.
"""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def load_env_file(path: Path) -> None:
    """Read `KEY=value` lines of a `.env` file into the environment; real environment variables win."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator or not key.strip().isidentifier():
            raise ImproperlyConfigured(f"{path.name}, line {number}: expected KEY=value, found {line!r}")
        os.environ.setdefault(key.strip(), value.strip())


def text(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, "")
    if value:
        return value
    if default is None:
        raise ImproperlyConfigured(f"{name} is not set; it is required (see .env.example).")
    return default


def flag(name: str, default: bool) -> bool:
    value = os.environ.get(name, "").lower()
    if not value:
        return default
    if value in TRUE | FALSE:
        return value in TRUE
    raise ImproperlyConfigured(f"{name}={value!r}: expected true or false.")


def integer(name: str, default: int, minimum: int = 0) -> int:
    value = os.environ.get(name, "")
    if not value:
        return default
    if not value.isdecimal() or int(value) < minimum:
        raise ImproperlyConfigured(f"{name}={value!r}: expected a whole number of at least {minimum}.")
    return int(value)


def choice(name: str, choices: Sequence[str], default: str) -> str:
    value = os.environ.get(name, "") or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name}={value!r}: expected one of {', '.join(choices)}.")
    return value


def listing(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def url(name: str, schemes: Sequence[str], default: str | None = None) -> str:
    value = text(name, default)
    if value and urlsplit(value).scheme not in schemes:
        raise ImproperlyConfigured(f"{name}: expected a URL with one of the schemes {', '.join(schemes)}.")
    return value


def kept_secret(name: str, path: Path) -> str:
    """The development default of a secret: made at random on first use and kept in `path` (mode 600)."""
    kept: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    if name not in kept:
        kept[name] = secrets.token_urlsafe(64)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(kept))
        partial.replace(path)
    return kept[name]
