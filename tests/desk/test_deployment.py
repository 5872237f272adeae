"""The commands of compose.yaml and the Dockerfile, run outside a container with production settings, PostgreSQL and Redis."""

import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from django.conf import settings
from django.db import connection

BIN = Path(sys.executable).parent


def compose() -> dict:
    return yaml.safe_load((settings.BASE_DIR / "compose.yaml").read_text())


def web_command() -> list[str]:
    text = (settings.BASE_DIR / "Dockerfile").read_text()
    return json.loads(re.findall(r"^CMD (\[.*\])$", text, flags=re.MULTILINE)[-1])


def health_command() -> list[str]:
    text = (settings.BASE_DIR / "Dockerfile").read_text()
    return json.loads(re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", text, flags=re.MULTILINE)[-1])


def collectstatic_command() -> list[str]:
    """As the Dockerfile's build step has it."""
    text = (settings.BASE_DIR / "Dockerfile").read_text()
    arguments = re.findall(r"python manage\.py (collectstatic .*) \\$", text, flags=re.MULTILINE)[-1]
    return [sys.executable, "manage.py", *arguments.split()]


def here(command: list[str], port: int | None = None) -> list[str]:
    """The command with this virtual environment's programs and, for the web server, a free loopback port."""
    program = BIN / command[0]
    assert program.exists(), f"{command[0]} is not installed by requirements.txt"
    command = [str(program), *command[1:]]
    if port is None:
        return command
    assert "0.0.0.0:8000" in " ".join(command) or "127.0.0.1:8000" in " ".join(command)
    return [part.replace("0.0.0.0:8000", f"127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{port}") for part in command]


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def production(tmp_path, db) -> dict[str, str]:
    """Production settings on the test's own PostgreSQL database and Redis."""
    database = settings.DATABASES["default"]
    user, password = quote(database["USER"], safe=""), quote(database["PASSWORD"] or "", safe="")
    return {
        "PATH": os.environ["PATH"],
        "POLYPHONY_ENVIRONMENT": "production",
        "POLYPHONY_VAR_DIR": str(tmp_path),
        "SECRET_KEY": secrets.token_urlsafe(64),
        "PSEUDONYM_KEY": secrets.token_urlsafe(64),
        "PANEL_KEY": secrets.token_urlsafe(64),
        "IDENTITY_KEY": secrets.token_urlsafe(64),
        "ALLOWED_HOSTS": "polyphony.example.org, other.example.org",
        "DATABASE_URL": f"postgres://{user}:{password}@{database['HOST']}:{database['PORT']}/{connection.settings_dict['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.postgresql
@pytest.mark.redis
def test_the_web_command_serves_and_the_health_check_sees_it(production, tmp_path):
    port, log = free_port(), tmp_path / "web.log"
    subprocess.run(collectstatic_command(), cwd=settings.BASE_DIR, env=production, check=True, timeout=120)
    health = here(health_command(), port)
    with running(here(web_command(), port), production, log):

        def healthy() -> bool:
            return subprocess.run(health, env=production, capture_output=True, timeout=30).returncode == 0

        assert wait_until(healthy), log.read_text()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/healthz/", headers={"Host": "polyphony.example.org"})
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310  (loopback)
            assert json.load(response) == {"status": "ok"}
        # Everything else is told to use TLS, with the cookies and headers of the production settings behind it.
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        plain.request("GET", "/", headers={"Host": "polyphony.example.org"})
        assert plain.getresponse().getheader("Location") == "https://polyphony.example.org/"
        plain.close()
    # Sabotage twin: without the server the same command must fail.
    assert subprocess.run(health, env=production, capture_output=True, timeout=30).returncode != 0


@pytest.mark.postgresql
@pytest.mark.redis
@pytest.mark.parametrize("service", ["worker-interactive", "worker"])
def test_the_worker_commands_start_and_take_their_queues(production, tmp_path, service):
    description, log = compose()["services"][service], tmp_path / "worker.log"
    with running(here(description["command"]), production, log) as process:
        assert wait_until(lambda: " ready." in log.read_text() or process.poll() is not None), log.read_text()
        assert process.poll() is None, log.read_text()
        for queue in description["command"][description["command"].index("-Q") + 1].split(","):
            assert f".> {queue}" in log.read_text()


@pytest.mark.postgresql
@pytest.mark.redis
def test_the_beat_command_sends_the_sweepers(production, tmp_path):
    log = tmp_path / "beat.log"
    with running(here(compose()["services"]["beat"]["command"]), production, log) as process:
        assert wait_until(lambda: "beat: Starting" in log.read_text() or process.poll() is not None), log.read_text()
        assert process.poll() is None, log.read_text()


@pytest.mark.postgresql
@pytest.mark.redis
def test_the_migrate_command_finds_nothing_left_to_do(production):
    command = here(compose()["services"]["migrate"]["command"])
    result = subprocess.run(command, cwd=settings.BASE_DIR, env=production, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "No migrations to apply" in result.stdout


def test_every_queue_of_the_settings_has_a_worker_in_compose():
    services = compose()["services"].values()
    commands = [service["command"] for service in services if "worker" in service.get("command", [])]
    queues = {queue for command in commands for queue in command[command.index("-Q") + 1].split(",")}
    assert queues == {"interactive", "bulk", "maintenance"}


def test_exactly_one_beat_and_one_migration_run():
    commands = [" ".join(service.get("command", [])) for service in compose()["services"].values()]
    assert sum(" beat " in command for command in commands) == 1
    assert not any(" -B" in command for command in commands)
    assert sum("migrate" in command for command in commands) == 1


def test_the_queue_server_never_evicts_and_keeps_its_entries():
    command = compose()["services"]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_the_image_runs_as_an_ordinary_user_and_copies_only_what_it_names():
    text = (settings.BASE_DIR / "Dockerfile").read_text()
    final = text.split("\nFROM ")[-1]
    assert "\nUSER polyphony\n" in final
    assert "COPY . " not in text
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, flags=re.MULTILINE):
        assert (settings.BASE_DIR / source).exists(), source
    # ENV lines stay in the image; the build's dummy secrets stand in a RUN and do not.
    kept = " ".join(line for line in text.splitlines() if line.startswith(("ENV", "ARG", "    POLYPHONY")))
    assert "SECRET" not in kept
    assert "PSEUDONYM" not in kept
