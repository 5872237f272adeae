"""The gate behind `make test`: runs every check, prints each one's name and time, and lists all failures at the end.

Usage: gate.py [STEP …] [-- PYTEST-ARGUMENT …]; without a STEP all of them run.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def steps(pytest_arguments: list[str]) -> dict[str, list[str]]:
    manage = [sys.executable, "manage.py"]
    return {
        "ruff": [f"{BIN}/ruff", "check", "."],
        "format": [f"{BIN}/ruff", "format", "--check", "--quiet", "."],
        "imports": [f"{BIN}/lint-imports", "--no-logo"],
        "mypy": [f"{BIN}/mypy", "apps", "annotation_site"],
        "templates": [f"{BIN}/djlint", "templates", "apps", "--lint", "--check"],
        "catalogues": [*manage, "check_catalogues"],
        "migrations": [*manage, "makemigrations", "--check", "--dry-run"],
        "system": [*manage, "check", "--fail-level", "WARNING"],
        "pytest": [f"{BIN}/pytest", *pytest_arguments],
    }


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    wanted, every = arguments[:split], steps(arguments[split + 1 :])
    unknown = set(wanted) - set(every)
    if unknown:
        print(f"Unknown step {', '.join(sorted(unknown))}; there are: {', '.join(every)}.")
        return 2
    failed = []
    for name, command in every.items():
        if wanted and name not in wanted:
            continue
        start = time.monotonic()
        if name == "pytest":
            # Straight through: a person watches the progress of the tests.
            print("pytest", " ".join(command[1:]), flush=True)
            status, output = subprocess.run(command, cwd=ROOT).returncode, ""
        else:
            result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            status, output = result.returncode, result.stdout
        print(f"{'ok    ' if status == 0 else 'FAILED'} {name:<10} {time.monotonic() - start:6.1f} s", flush=True)
        if status:
            failed.append(name)
            print(output, flush=True)
    print(f"Failed: {', '.join(failed)}." if failed else "The gate is open: every check passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
