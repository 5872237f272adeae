"""Take a person's words out of the sets that were made for them."""

from collections.abc import Iterable

from django.db import transaction

from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, Verdict

ERASED_TEXT = "[erased]"


def erase_live_sets(*, candidate_set_ids: Iterable[int]) -> None:
    """Empty live sets of a person who left: their messages, what models answered to them, and the raw outputs.

    The rows stay, so that costs and counts keep adding up. Pre-generated sets are never touched.
    """
    sets = CandidateSet.objects.filter(pk__in=list(candidate_set_ids), is_live=True)
    with transaction.atomic():
        ids = list(sets.select_for_update().order_by("pk").values_list("pk", flat=True))
        CandidateSet.objects.filter(pk__in=ids).update(
            messages=[], text_hash="", state=CandidateSet.State.REJECTED, claim_token=None, claimed_until=None, moderation=None
        )
        GenerationAttempt.objects.filter(candidate_set__in=ids).update(raw_output="", error_detail="")
        Verdict.objects.filter(candidate_set__in=ids).update(detail="")
        candidates = list(Candidate.objects.filter(candidate_set__in=ids))
        for candidate in candidates:
            candidate.text, candidate.text_fingerprint = ERASED_TEXT, f"erased-{candidate.slot}"
        Candidate.objects.bulk_update(candidates, ["text", "text_fingerprint"], batch_size=200)
