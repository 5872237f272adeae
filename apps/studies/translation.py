from modeltranslation.translator import TranslationOptions, register

from apps.studies.models import Study


@register(Study)
class StudyTranslation(TranslationOptions):
    fields = ("title", "invitation")
