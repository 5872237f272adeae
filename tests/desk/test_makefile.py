"""What a newcomer meets before any of our Python runs."""

import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

TOOLS = ["sh", "cat", "grep", "cksum", "touch", "rm", "sort", "cut"]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout on a machine with make and a shell, but no Python."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(settings.BASE_DIR / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program
    return subprocess.run([program, *arguments], cwd=folder, env={"PATH": str(folder / "bin")}, capture_output=True, text=True, timeout=60)


def test_a_missing_python_is_told_in_one_line(bare):
    result = make(bare, "demo")
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert said == ["Polyphony needs Python 3.11 or newer, and there is no python3.11 on this machine."]
    assert not (bare / ".venv").exists()


def test_a_half_made_environment_is_told_and_taken_away(bare):
    (bare / ".venv" / "bin").mkdir(parents=True)
    result = make(bare, "install")
    assert result.stdout == "The .venv is half-made (an earlier install did not finish); making it again.\n"
    assert not (bare / ".venv").exists()


def test_a_whole_environment_is_left_alone(bare):
    python = bare / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    text = (bare / "requirements.txt").read_text()
    sums = subprocess.run(["cksum"], input=text, capture_output=True, text=True, check=True).stdout
    (bare / ".venv" / ".installed").write_text(f"requirements.txt {sums}")
    result = make(bare, "install")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_sabotage_changed_requirements_are_installed_again(bare):
    test_a_whole_environment_is_left_alone(bare)
    (bare / "requirements.txt").write_text("django\n")
    assert "Installing the packages of requirements.txt" in make(bare, "install").stdout
