"""The form behind *Build release*."""

from typing import Any

from django import forms

from apps.exports.formats import FORMATS
from apps.exports.schemas import SCHEMA_TITLES
from apps.studies.models import Study


class BuildReleaseForm(forms.Form):
    """Study (of the user's own), schema and formats."""

    study: "forms.ModelChoiceField[Study]" = forms.ModelChoiceField(queryset=Study.objects.none(), empty_label=None)
    schema = forms.ChoiceField(choices=list(SCHEMA_TITLES.items()), widget=forms.RadioSelect, initial=next(iter(SCHEMA_TITLES)))
    formats = forms.MultipleChoiceField(
        choices=[(name, name.upper() if name == "csv" else name.title()) for name in FORMATS],
        widget=forms.CheckboxSelectMultiple,
        initial=list(FORMATS),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["study"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101  (tells the type checker)
        field.queryset = Study.objects.visible_to(user).order_by("slug")
