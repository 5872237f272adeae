"""What can go wrong when a person joins or answers questions."""

from apps.core.errors import DomainError


class LinkClosed(DomainError):
    """The recruitment link or its study takes nobody at present."""

    code = "link_closed"


class UnknownLocale(DomainError):
    """The link does not offer the locale that was asked for."""

    code = "unknown_locale"


class ConsentMissing(DomainError):
    """The box beside the statement was not ticked, or no granted consent covers the questions."""

    code = "consent_missing"


class InvalidAnswers(DomainError):
    """Some answers cannot be stored; `extra["problems"]` maps question codes to a reason code."""

    code = "invalid_answers"


class SubmissionConflict(DomainError):
    """The same submission id came with other contents, or belongs to somebody else."""

    code = "submission_conflict"
