from django.apps import AppConfig


class AnnotatorsConfig(AppConfig):
    name = "apps.annotators"
    verbose_name = "Annotators"
