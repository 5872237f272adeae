"""People and their consent. Demographic answers stay in their own module, which only quotas and exports may import."""

from apps.annotators.models import demographics as _demographics  # noqa: F401  (registers its models with Django)
from apps.annotators.models.people import (
    Annotator,
    Consent,
    IdentityReading,
    LinkOpening,
    PanelEvent,
    PanelIdentity,
    RecruitmentLink,
)

__all__ = ["Annotator", "Consent", "IdentityReading", "LinkOpening", "PanelEvent", "PanelIdentity", "RecruitmentLink"]
