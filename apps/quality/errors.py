"""Why a balance rule is refused."""

from apps.core.errors import DomainError


class BalanceRefused(DomainError):
    """The rule cannot be stored: its message says what is expected."""

    code = "balance_rule_refused"
