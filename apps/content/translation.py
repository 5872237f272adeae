from modeltranslation.translator import TranslationOptions, register

from apps.content.models import Prompt, Topic


@register(Topic)
class TopicTranslation(TranslationOptions):
    fields = ("title",)


@register(Prompt)
class PromptTranslation(TranslationOptions):
    fields = ("text",)
