"""What a study demands of its candidates and may spend on them."""

from apps.generation.models import GenerationPolicy
from apps.studies.models import Study


def policy_of(study: Study) -> GenerationPolicy:
    """The study's saved policy, or an unsaved one with the defaults."""
    return GenerationPolicy.objects.filter(study=study).first() or GenerationPolicy(study=study)
