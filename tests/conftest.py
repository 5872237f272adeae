"""What every test shares: catalogues, and honest skips of what this machine cannot run.

`POLYPHONY_REQUIRE=browser,postgresql,redis` refuses to start where one of these is missing, and turns a skipped test with such
a mark into a failure (CI sets it).
"""

import os
import shutil
from pathlib import Path

import pytest
from django.conf import settings
from hypothesis import settings as hypothesis

from apps.desk.catalogues import compile_catalogues

# How many examples a property gets that names no number itself; `make nightly` takes the second profile.
hypothesis.register_profile("gate", max_examples=50, deadline=None)
hypothesis.register_profile("nightly", max_examples=2000, deadline=None)
hypothesis.load_profile("gate")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _missing() -> dict[str, str]:
    """Mark → why tests with it cannot run here."""
    missing = {}
    if CHROMIUM is None:
        missing["browser"] = "no Chromium on this machine (Debian: apt-get install chromium)"
    if "postgresql" not in settings.DATABASES["default"]["ENGINE"]:
        missing["postgresql"] = "DATABASE_URL is not a PostgreSQL URL"
    if not settings.REDIS_URL:
        missing["redis"] = "REDIS_URL is not set"
    return missing


def _required() -> set[str]:
    return {mark.strip() for mark in os.environ.get("POLYPHONY_REQUIRE", "").split(",") if mark.strip()}


def pytest_configure(config: pytest.Config) -> None:
    unknown = _required() - {"browser", "postgresql", "redis"}
    if unknown:
        raise pytest.UsageError(f"POLYPHONY_REQUIRE names unknown marks: {', '.join(sorted(unknown))}")
    reasons = [reason for mark, reason in _missing().items() if mark in _required()]
    if reasons:
        raise pytest.UsageError(f"These tests must run here (POLYPHONY_REQUIRE), but cannot: {'; '.join(reasons)}.")
    if not hasattr(config, "workerinput"):
        for folder in settings.LOCALE_PATHS:
            compile_catalogues(Path(folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for mark, reason in _missing().items():
        for item in items:
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=f"{mark}: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    marks = sorted(_required() & {mark.name for mark in item.iter_markers()})
    if report.skipped and marks and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"POLYPHONY_REQUIRE={','.join(marks)}: this test must run here, but was skipped. {reason}"
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"did not run here: {count} × {reason}")
