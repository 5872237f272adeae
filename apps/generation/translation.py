from modeltranslation.translator import TranslationOptions, register

from apps.generation.models import InstructionTemplate


@register(InstructionTemplate)
class InstructionTemplateTranslation(TranslationOptions):
    fields = ("text",)
