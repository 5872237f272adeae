"""A person's second go at a live message that moderation refused."""

from django.db import transaction

from apps.core.enqueue import enqueue_on_commit
from apps.core.errors import DomainError
from apps.core.text import clean_text, text_hash
from apps.generation.models import CandidateSet
from apps.generation.moderation import MessageNotAllowed
from apps.generation.services.requesting import TASK_NAME


class NothingToRewrite(DomainError):
    """The set was not refused for its message."""

    code = "nothing_to_rewrite"


def is_message_refused(candidate_set: CandidateSet | None) -> bool:
    """Whether a live set failed since moderation did not allow the person's message."""
    return (
        candidate_set is not None
        and candidate_set.is_live
        and candidate_set.state == CandidateSet.State.FAILED
        and candidate_set.error_code == MessageNotAllowed.code
    )


def rewrite_live_message(*, candidate_set_id: int, message: str) -> CandidateSet:
    """Put `message` in the place of the refused one and ask again. Raises `NothingToRewrite`.

    The refused words are not kept; the verdict on them is, under `refused` in `moderation`.
    """
    with transaction.atomic():
        row = CandidateSet.objects.select_for_update().get(pk=candidate_set_id)
        if not is_message_refused(row):
            raise NothingToRewrite(f"{row} was not refused for its message")
        cleaned = clean_text(message)
        verdicts = row.moderation or {}
        refused = [*verdicts.get("refused", []), verdicts["message"]] if "message" in verdicts else verdicts.get("refused", [])
        row.messages = [*row.messages[:-1], {"role": "user", "content": cleaned}]
        row.text_hash = text_hash(cleaned)
        row.moderation = {"refused": refused}
        row.state, row.failures, row.error_code, row.retry_at = CandidateSet.State.PENDING, 0, "", None
        row.save(update_fields=["messages", "text_hash", "moderation", "state", "failures", "error_code", "retry_at"])
        enqueue_on_commit(TASK_NAME, row.pk, queue="interactive")
    return row
