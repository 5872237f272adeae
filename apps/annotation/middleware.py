"""Who is at the page, and in which language it speaks."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers

from apps.annotation.selectors import annotator_at_work
from apps.annotators.models import Annotator

SESSION_ANNOTATOR = "annotator_id"
SESSION_LANGUAGE = "interface_language"
_ENGLISH_ONLY = ("/admin/", "/api/")


def annotator_of(request: HttpRequest) -> Annotator | None:
    """The person whose link opened this session, if any."""
    pk = request.session.get(SESSION_ANNOTATOR)
    return None if pk is None else annotator_at_work(pk)


class AnnotatorMiddleware:
    """Activate the language of the person's locale (else the browser's) for this request and no longer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(_ENGLISH_ONLY):
            language = "en"
        else:
            language = request.session.get(SESSION_LANGUAGE) or translation.get_language_from_request(request)
        request.LANGUAGE_CODE = language
        with translation.override(language):
            response = self.get_response(request)
            response.headers.setdefault("Content-Language", translation.get_language() or language)
        patch_vary_headers(response, ["Accept-Language"])
        return response
