from apps.generation.models.candidates import Candidate, CandidateSet, GenerationAttempt, ValueScore, Verdict
from apps.generation.models.recipes import GenerationPolicy, InstructionTemplate, ModelSpec, Recipe, RecipePart, RecipePartVariant

__all__ = [
    "Candidate",
    "CandidateSet",
    "GenerationAttempt",
    "GenerationPolicy",
    "InstructionTemplate",
    "ModelSpec",
    "Recipe",
    "RecipePart",
    "RecipePartVariant",
    "ValueScore",
    "Verdict",
]
