"""What is wrong with a study file or a prompt file, all of it at once, each error with its line."""

from dataclasses import dataclass

from apps.core.errors import DomainError
from apps.core.text import counted


@dataclass(frozen=True, order=True)
class Problem:
    """One error: line (from 1; 0 where the file as a whole is meant), key within the file, and what was expected."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.key}: {self.message}" if self.key else f"{place}{self.message}"


class FileRefused(DomainError):
    """A file cannot be loaded. `problems` lists everything found, in the order of the file; nothing was stored."""

    code = "file_refused"

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name = name
        self.problems = sorted(problems)
        lines = [f"{name}: {counted(len(problems), 'problem')}; nothing was loaded."]
        lines += [f"  {name}{', ' if problem.line else ': '}{problem}" for problem in self.problems]
        super().__init__("\n".join(lines), file=name, problems=[str(problem) for problem in self.problems])
