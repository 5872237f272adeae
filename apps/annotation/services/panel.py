"""What a panel tells about its people."""

import hashlib
import hmac
import json
from datetime import datetime

from django.db import transaction

from apps.annotation.errors import EventConflict
from apps.annotation.models import Assignment
from apps.annotation.services.leases import return_assignment
from apps.annotators.identities import outside_hash, signing_secret
from apps.annotators.models import Annotator, PanelEvent, RecruitmentLink
from apps.annotators.services import end_participation
from apps.quotas.models import Placement
from apps.quotas.services import release_placements

_END_REASONS = {
    PanelEvent.Status.RETURNED: Annotator.EndReason.PANEL_RETURNED,
    PanelEvent.Status.TIMED_OUT: Annotator.EndReason.PANEL_TIMED_OUT,
    PanelEvent.Status.REJECTED: Annotator.EndReason.PANEL_REJECTED,
}


def apply_panel_status(*, link: RecruitmentLink, event_id: str, participant: str, status: PanelEvent.Status, now: datetime) -> PanelEvent:
    """Take in a panel's message about one of its people, once however often it is delivered.

    1. Lock the person, if one of this link's people has the identity: deliveries of their messages come one after the other.
    2. Store the event. Its id decides which of two deliveries is the first; the second gets the first one's row.
    3. On the first, a person who still takes part ends as RETURNED: their places are released, their running task is given
       back and its slot opens again. What they have finished stays, and so does a person who has ended.

    Raises `EventConflict` when `event_id` came before with other contents.
    """
    digest = _digest(link=link, event_id=event_id, participant=participant, status=status)
    known_as = outside_hash(study_pk=link.study_id, kind=link.kind, participant=participant)
    with transaction.atomic():
        annotator = link.annotators.select_for_update(of=("self",)).filter(external_id_hash=known_as).first()
        event, created = PanelEvent.objects.get_or_create(
            link=link,
            event_id=event_id,
            defaults={
                "body_hash": digest,
                "status": status,
                "annotator": annotator,
                "had_effect": annotator is not None and annotator.state == Annotator.State.ACTIVE,
                "received_at": now,
            },
        )
        if not hmac.compare_digest(event.body_hash, digest):
            raise EventConflict
        if created and event.had_effect and annotator is not None:
            _give_up(annotator=annotator, status=status, now=now)
    return event


def _give_up(*, annotator: Annotator, status: PanelEvent.Status, now: datetime) -> None:
    """End the participation of a (locked) person and give back what they hold, in lock order."""
    timed_out = status == PanelEvent.Status.TIMED_OUT
    reason = Placement.ReleaseReason.TIMEOUT if timed_out else Placement.ReleaseReason.RETURN
    release_placements(annotator=annotator, reason=reason, now=now)
    return_assignment(annotator=annotator, state=Assignment.State.RETURNED, reason=f"panel: {status.label.lower()}", now=now)
    end_participation(annotator=annotator, state=Annotator.State.RETURNED, reason=_END_REASONS[status], now=now)


def _digest(*, link: RecruitmentLink, **contents: str) -> str:
    """Keyed, since the plain hash of an identity could be guessed back."""
    body = json.dumps(contents, sort_keys=True).encode()
    return hmac.digest(signing_secret(link).encode(), body, hashlib.sha256).hex()
