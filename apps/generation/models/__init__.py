from apps.generation.models.candidates import Candidate, CandidateSet, GenerationAttempt
from apps.generation.models.recipes import InstructionTemplate, ModelSpec, Recipe, RecipePart

__all__ = ["Candidate", "CandidateSet", "GenerationAttempt", "InstructionTemplate", "ModelSpec", "Recipe", "RecipePart"]
