"""Candidate sets for reviewers: what `generation` shows, with rejecting and editing sets that nobody has seen."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone

from apps.annotation.services.reviewing import SetWasShown, check_changeable, edit_candidate_set, reject_candidate_set
from apps.core.text import counted
from apps.generation.admin import CandidateSetAdmin, ReasonForm
from apps.generation.models import CandidateSet
from apps.generation.services.reviewing import CandidatesRefused, NotReviewable, ReasonMissing, drafted, fault_text
from apps.studies.permissions import limit_to_writable

REFUSALS = (NotReviewable, ReasonMissing, SetWasShown)


class ReviewForm(forms.Form):
    """The k candidates of a set and why they are changed."""

    reason = forms.CharField(max_length=300, help_text="Stays on record with the set as it was.")

    def __init__(self, *args: Any, texts: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for slot, text in enumerate(texts):
            self.fields[f"text_{slot}"] = forms.CharField(
                label=f"Candidate {slot + 1}", initial=text, strip=True, widget=forms.Textarea(attrs={"rows": 8, "cols": 100})
            )

    def texts(self) -> list[str]:
        return [value for name, value in self.cleaned_data.items() if name.startswith("text_")]

    def add_faults(self, refused: CandidatesRefused) -> None:
        """Every fault beside the candidate that it is about."""
        for fault in refused.faults:
            if fault.slot is None or f"text_{fault.slot}" not in self.fields:
                self.add_error(None, fault_text(fault))
            else:
                self.add_error(f"text_{fault.slot}", fault.words)


@admin.register(CandidateSet)
class ReviewedCandidateSetAdmin(CandidateSetAdmin):
    actions = ["accept", "reject", "retry_failed"]
    action_form = ReasonForm
    change_form_template = "admin/generation/candidateset/change_form.html"

    @admin.action(description="Reject, and make others in their place", permissions=["review"])
    def reject(self, request: HttpRequest, queryset: QuerySet[CandidateSet]) -> None:
        """Each on its own: those that people have seen stay, and the page says so."""
        rejected = 0
        refusals: dict[str, int] = {}
        for row in limit_to_writable(queryset, self.study_path, request.user):
            try:
                reject_candidate_set(
                    candidate_set=row, reason=request.POST.get("reason", ""), reviewer=_reviewer(request), now=timezone.now()
                )
                rejected += 1
            except REFUSALS as refused:
                refusals[str(refused)] = refusals.get(str(refused), 0) + 1
        if rejected:
            self.message_user(request, f"Rejected: {counted(rejected, 'candidate set')}. Others are made in their place.", messages.SUCCESS)
        for words, count in refusals.items():
            self.message_user(request, words if count == 1 else f"{words} ({count} sets)", messages.WARNING)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """With the way to the form for editing by hand, or why there is none."""
        row = self.get_object(request, object_id)
        context = {"may_write": self.may_write(request, row), "refusal": _refusal(row)} if row else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def get_urls(self) -> list[Any]:
        page = self.admin_site.admin_view(self.edit)
        return [path("<int:pk>/edit/", page, name="generation_candidateset_edit"), *super().get_urls()]

    def edit(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Write the candidates by hand: the set is rejected in favour of a curated one."""
        row = self.get_queryset(request).filter(pk=pk).first()
        if row is None:
            raise Http404("No such candidate set, or you are not a member of its study.")
        if not self.may_write(request, row):
            raise PermissionDenied
        if refusal := _refusal(row):
            self.message_user(request, str(refusal), messages.WARNING)
            return redirect("admin:generation_candidateset_change", row.pk)
        candidates = list(row.candidates.all()) or drafted(row)
        texts = [candidate.text for candidate in candidates][: row.k]
        form = ReviewForm(request.POST or None, texts=texts + [""] * (row.k - len(texts)))
        if request.method == "POST" and form.is_valid():
            try:
                curated = edit_candidate_set(
                    candidate_set=row,
                    texts=form.texts(),
                    reason=form.cleaned_data["reason"],
                    reviewer=_reviewer(request),
                    now=timezone.now(),
                )
            except CandidatesRefused as refused:
                form.add_faults(refused)
            except REFUSALS as refused:
                form.add_error(None, str(refused))
            else:
                self.message_user(request, f"{row} is rejected; {curated} stands in its place.", messages.SUCCESS)
                return redirect("admin:generation_candidateset_change", curated.pk)
        context = {**self.admin_site.each_context(request), "title": f"Edit {row}", "opts": self.opts, "set": row, "form": form}
        return TemplateResponse(request, "admin/generation/candidateset/edit.html", context)


def _refusal(row: CandidateSet) -> NotReviewable | SetWasShown | None:
    """Why a set can be neither rejected nor edited; None where it can."""
    try:
        check_changeable(row)
    except (NotReviewable, SetWasShown) as refusal:
        return refusal
    return None


def _reviewer(request: HttpRequest) -> Any:
    return request.user
