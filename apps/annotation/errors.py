"""What can go wrong between a claim and the end of a conversation."""

from apps.core.errors import DomainError


class NoWorkAvailable(DomainError):
    """No open slot of this locale has candidates ready and a prompt the person has not had."""

    code = "no_work_available"


class DailyLimitReached(DomainError):
    """The person has started as many conversations today as the study allows; `extra`: `until`, midnight in their time zone."""

    code = "daily_limit_reached"


class StaleForm(DomainError):
    """The form belongs to a step that is over; the person's current step is elsewhere."""

    code = "stale_form"


class MissingChoice(DomainError):
    """No candidate, or one that is not on the page, was chosen."""

    code = "missing_choice"


class ExplanationTooShort(DomainError):
    """`extra`: `words` written, `minimum` required."""

    code = "explanation_too_short"


class EmptyMessage(DomainError):
    code = "empty_message"


class MessageTooLong(DomainError):
    """`extra`: `characters` written, `maximum` allowed."""

    code = "message_too_long"


class TooFewTurns(DomainError):
    """The conversation cannot end before its minimum of turns; `extra`: `minimum`."""

    code = "too_few_turns"


class EventConflict(DomainError):
    """A panel's message came before under the same id with other contents."""

    code = "event_conflict"
