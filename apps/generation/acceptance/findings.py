"""What acceptance says about an output."""

from dataclasses import dataclass

from apps.core.errors import DomainError


class AnswerRefused(DomainError):
    """The model's output cannot be shown.

    `code`: wrong_count, empty_answer, answer_too_long, marker_in_answer, duplicate_answers, or that of a sampling method.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Fault:
    """One reason to refuse answers: about one of them (`slot`: its index) or all of them together (None)."""

    slot: int | None
    code: str
    words: str


@dataclass(frozen=True)
class Finding:
    """One check of one answer (`slot`: its index among those given) or of the whole set (`slot` None), with its figure.

    `refuses`: nobody may see the text, so it is to be asked for again. A finding that did not pass always refuses; one that
    passed may still say in `detail` that the check could not tell.
    """

    check_name: str
    passed: bool
    figure: float | None
    detail: str
    slot: int | None
    refuses: bool


@dataclass(frozen=True)
class SetReport:
    """A set as a whole: the findings, the matrix of pairwise similarities (0 to 1, by slot) and what measured them.

    `diversity` is 1 − mean pairwise similarity; 1 for a single text.
    """

    findings: list[Finding]
    measure: str
    similarity: list[list[float]]
    diversity: float
