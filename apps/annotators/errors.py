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


class NotEligible(DomainError):
    """An answer shows that the person cannot take part."""

    code = "not_eligible"


class Underage(NotEligible):
    """… because they are under 18."""

    code = "underage"


class SubmissionConflict(DomainError):
    """The same submission id came with other contents, or belongs to somebody else."""

    code = "submission_conflict"


class IdentityMissing(DomainError):
    """The link of a panel was opened without a usable identity, perhaps with a placeholder in its place."""

    code = "identity_missing"


class SignatureRefused(DomainError):
    """An address or a message is not signed by the link's panel, or was signed too long ago."""

    code = "signature_refused"


class AnswersDiffer(DomainError):
    """The questions of the other locale differ from those that an admitted person has answered."""

    code = "answers_differ"
