"""S1: refuses to start unsafe. Each case starts a real process with production settings and one value spoilt."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

SECRET = "q7Zr1xWm-4uKdP0vTnB8yLsHgJ2cFaEo6iXtRwQeYzUbVpMk9sDhJ5gTnCe"
PSEUDONYM = "N3hGtYbRz-8mLkQwXcV5uJpFsDaEo2iZxTrWqBvKyHnUjMlP7g"
PANEL = "hT6wZc2RkV-9pQmXs4LdJyNbGf7aEuOiHtKxWvPzCqMnBr3S8Yg"
IDENTITY = "Lw8sVbNq-1rTzXgYh5KcPmDjFoEa3uSiWxQtRyUvHpBnMkJ6Zd2"


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """A production environment that is safe; nothing of the developer's own leaks in."""
    return {
        "PATH": os.environ["PATH"],
        "POLYPHONY_ENVIRONMENT": "production",
        "POLYPHONY_VAR_DIR": str(tmp_path),
        "SECRET_KEY": SECRET,
        "PSEUDONYM_KEY": PSEUDONYM,
        "PANEL_KEY": PANEL,
        "IDENTITY_KEY": IDENTITY,
        "ALLOWED_HOSTS": "polyphony.example.org",
        "DATABASE_URL": "postgres://polyphony:u8Xk2mQv@127.0.0.1:5432/polyphony",
        "REDIS_URL": "redis://127.0.0.1:6379/0",
    }


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "manage.py", *arguments]
    return subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=60)


def test_s1_safe_production_settings_pass_djangos_deployment_check(production):
    (Path(production["POLYPHONY_VAR_DIR"]) / "static").mkdir()
    result = manage(production, "check", "--deploy", "--fail-level", "DEBUG")
    assert result.returncode == 0, result.stderr
    assert "no issues (0 silenced)" in result.stdout


UNSAFE = {
    "no secret key": ({"SECRET_KEY": ""}, "SECRET_KEY"),
    "short secret key": ({"SECRET_KEY": "abc123"}, "SECRET_KEY"),
    "example secret key": ({"SECRET_KEY": "django-insecure-" + SECRET}, "SECRET_KEY"),
    "monotonous secret key": ({"SECRET_KEY": "ab" * 40}, "SECRET_KEY"),
    "no pseudonym key": ({"PSEUDONYM_KEY": ""}, "PSEUDONYM_KEY"),
    "one key for both": ({"PSEUDONYM_KEY": SECRET}, "PSEUDONYM_KEY"),
    "no panel key": ({"PANEL_KEY": ""}, "PANEL_KEY"),
    "short panel key": ({"PANEL_KEY": "abc123"}, "PANEL_KEY"),
    "no identity key": ({"IDENTITY_KEY": ""}, "IDENTITY_KEY"),
    "example identity key": ({"IDENTITY_KEY": "change-me-" + IDENTITY}, "IDENTITY_KEY"),
    "a short key behind the identity key": ({"IDENTITY_KEY": IDENTITY + ",old"}, "IDENTITY_KEY"),
    "an empty key behind the identity key": ({"IDENTITY_KEY": IDENTITY + ","}, "IDENTITY_KEY"),
    "one key for panels and identities": ({"IDENTITY_KEY": IDENTITY + "," + PANEL}, "IDENTITY_KEY"),
    "debug": ({"DEBUG": "true"}, "DEBUG"),
    "debug spelt wrongly": ({"DEBUG": "ja"}, "DEBUG"),
    "any host": ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
    "any host among others": ({"ALLOWED_HOSTS": "polyphony.example.org,*"}, "ALLOWED_HOSTS"),
    "no host": ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS"),
    "no database": ({"DATABASE_URL": ""}, "DATABASE_URL"),
    "sqlite": ({"DATABASE_URL": "sqlite:////tmp/polyphony.sqlite3"}, "DATABASE_URL"),
    "default database password": ({"DATABASE_URL": "postgres://polyphony:postgres@127.0.0.1/polyphony"}, "DATABASE_URL"),
    "no queue": ({"REDIS_URL": ""}, "REDIS_URL"),
    "unknown queue": ({"REDIS_URL": "memory://"}, "REDIS_URL"),
    "endpoints anywhere inside": ({"OUTBOUND_ALLOWED": "*:*"}, "OUTBOUND_ALLOWED"),
    "misspelt environment": ({"POLYPHONY_ENVIRONMENT": "prod"}, "POLYPHONY_ENVIRONMENT"),
}


def test_s1_two_identity_keys_are_accepted_while_one_takes_over(production):
    result = manage({**production, "IDENTITY_KEY": f"{IDENTITY}, {PANEL[::-1]}"}, "check")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("spoilt", "named"), UNSAFE.values(), ids=UNSAFE)
def test_s1_refuses_to_start_with(production, spoilt, named):
    result = manage({**production, **spoilt}, "check")
    assert result.returncode != 0
    assert "ImproperlyConfigured" in result.stderr
    last_line = result.stderr.strip().splitlines()[-1]
    assert named in last_line
    assert SECRET not in result.stderr
    assert "u8Xk2mQv" not in result.stderr


def test_s1_sabotage_without_the_refusal_an_unsafe_value_starts(production, tmp_path):
    """The same settings with the last section cut off accept DEBUG: so the test above sees the guard and nothing else."""
    source = (settings.BASE_DIR / "annotation_site" / "settings.py").read_text()
    guard = "# --- Refuse to start unsafe"
    assert source.count(guard) == 1
    unguarded = tmp_path / "unguarded_settings.py"
    unguarded.write_text(source.split(guard)[0].replace("Path(__file__).resolve().parent.parent", f"Path({str(settings.BASE_DIR)!r})"))
    environment = {**production, "DEBUG": "true", "DJANGO_SETTINGS_MODULE": "unguarded_settings", "PYTHONPATH": str(tmp_path)}
    assert manage(environment, "check").returncode == 0


def test_s1_the_development_default_makes_a_secret_of_its_own_and_keeps_it(tmp_path):
    environment = {"PATH": os.environ["PATH"], "POLYPHONY_VAR_DIR": str(tmp_path)}
    names = ("SECRET_KEY", "PSEUDONYM_KEY", "PANEL_KEY", "IDENTITY_KEY")
    show = ["shell", "--no-imports", "-c", f"from django.conf import settings; print(*[getattr(settings, name) for name in {names}])"]
    first, second = manage(environment, *show), manage(environment, *show)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    kept = tmp_path / "secrets.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert set(first.stdout.split()) == set(json.loads(kept.read_text()).values())
    assert len(set(first.stdout.split())) == len(names)


EXAMPLES = ("SECRET_KEY", "PSEUDONYM_KEY", "PANEL_KEY", "IDENTITY_KEY", "ALLOWED_HOSTS", "POSTGRES_PASSWORD")


def test_s1_nothing_in_the_repository_works_as_a_secret():
    """The example file leaves every secret empty, and neither Docker file holds one."""
    example = (settings.BASE_DIR / ".env.example").read_text()
    for name in EXAMPLES:
        assert f"\n{name}=\n" in example
    compose = (settings.BASE_DIR / "compose.yaml").read_text()
    for name in EXAMPLES:
        assert f"${{{name}:?" in compose
        assert f"${{{name}:-" not in compose
