from apps.core.errors import DomainError


class QuotaCellFull(DomainError):
    """A hard cell that the person falls in has no place left. `extra`: `cell`."""

    code = "quota_cell_full"


class OutsideCellsFull(DomainError):
    """A hard quota has admitted as many people outside its cells as it may. `extra`: `quota`."""

    code = "outside_cells_full"


class NoCellFits(DomainError):
    """A hard quota refuses people whose answers fit none of its cells. `extra`: `quota`."""

    code = "no_cell_fits"


class AnswerMissing(DomainError):
    """Questions that decide about a place were left open and are to be asked once more. `extra`: `questions`, their codes."""

    code = "answer_missing"


class TargetChanged(DomainError):
    """Somebody else has edited the target meanwhile. `extra`: `target` and `version` now, `user` and `changed_at` of that edit."""

    code = "target_changed"


class NoTables(DomainError):
    """No population table of the country fits what the study asks before the tasks."""

    code = "no_population_tables"


class PeopleAdmitted(DomainError):
    """A new quota would count from 0 in locales where people are admitted already. `extra`: `people`, their number by locale."""

    code = "people_admitted"
