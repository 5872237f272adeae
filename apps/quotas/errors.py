from apps.core.errors import DomainError


class QuotaCellFull(DomainError):
    """A hard cell that the person falls in has no place left."""

    code = "quota_cell_full"
