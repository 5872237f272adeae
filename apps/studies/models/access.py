"""Who may see and do what in a study."""

import hashlib
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

from apps.studies.models.study import Study


class StudyMembership(models.Model):
    """What one researcher may do in one study."""

    class Role(models.TextChoices):
        OWNER = "OWNER", "Owner"
        RESEARCHER = "RESEARCHER", "Researcher"
        TRANSLATOR = "TRANSLATOR", "Translator"
        REVIEWER = "REVIEWER", "Reviewer"
        VIEWER = "VIEWER", "Viewer"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role, default=Role.VIEWER)
    may_see_identities = models.BooleanField(
        default=False, help_text="May read the panel's identities of this study, to approve and pay people. Each reading is logged."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "user"], name="one_membership_per_study_and_user")]

    def __str__(self) -> str:
        return f"{self.user} in {self.study}: {self.get_role_display()}"


class ApiToken(models.Model):
    """A program's key: it acts as one membership, sees that study only, and dies with the membership.

    Only the SHA-256 is stored; the token itself is shown once, when it is made.
    """

    membership = models.ForeignKey(StudyMembership, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100, help_text="What uses the token, for example “nightly analysis”.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=12, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @staticmethod
    def digest_of(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    @classmethod
    def issue(cls, *, membership: StudyMembership, name: str, days: int = 90) -> tuple["ApiToken", str]:
        """Make a token that lives `days` days. Returns the row and the token, which cannot be read again."""
        token = f"poly_{secrets.token_urlsafe(32)}"
        row = cls.objects.create(
            membership=membership,
            name=name,
            digest=cls.digest_of(token),
            prefix=token[:9],
            expires_at=timezone.now() + timedelta(days=days),
        )
        return row, token

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and now < self.expires_at and self.membership.user.is_active
