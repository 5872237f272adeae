"""The endpoints. Every read starts from the token's membership, so another study cannot be named into view."""

import json
from collections.abc import Iterator
from typing import Any, cast

from django.http import HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema, inline_serializer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework import exceptions, serializers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api.errors import BadParameter, StudyNotFound, UnknownParameters, exception_handler
from apps.api.pagination import decode_cursor, encode_cursor
from apps.api.serializers import ComparisonSerializer, ErasedSerializer, ErrorSerializer, QuotasSerializer, StudyListSerializer, entry_data
from apps.exports.selectors import Position, Watermark, current_watermark, feed, iso, study_overview
from apps.quotas.selectors import quota_board
from apps.studies.models import ApiToken, Study

PAGE_SIZE, MAXIMUM_PAGE_SIZE, STREAM_CHUNK = 100, 500, 500

_NO_STUDY = "Your token has no such study. /api/v1/studies/ tells which one it has."
_ERRORS = dict.fromkeys((400, 401, 404, 406), ErrorSerializer)
_FORMAT = OpenApiParameter("format", enum=["json", "ndjson"], description="The same choice as the Accept header.")


def _change(*, many: bool) -> PolymorphicProxySerializer:
    return PolymorphicProxySerializer("Change", [ComparisonSerializer, ErasedSerializer], resource_type_field_name=None, many=many)


class NdjsonRenderer(BaseRenderer):
    """Lets a client ask for `application/x-ndjson`. Errors of such a request are one JSON object."""

    media_type = "application/x-ndjson"
    format = "ndjson"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return ndjson_line(data)


class Negotiation(DefaultContentNegotiation):
    """An unknown `format` is 406 like an unknown Accept header, not a page that is missing."""

    def filter_renderers(self, renderers: Any, format: str) -> Any:
        known = [renderer for renderer in renderers if renderer.format == format]
        if not known:
            raise exceptions.NotAcceptable(f"There is no format “{format}” here; choose from {', '.join(r.format for r in renderers)}.")
        return known


class StudyView(APIView):
    """A view of the study that the token belongs to."""

    parameters: tuple[str, ...] = ()
    content_negotiation_class = Negotiation

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        unknown = sorted(set(request.query_params) - {"format", *self.parameters})
        if unknown:
            known = ", ".join(["format", *self.parameters])
            raise UnknownParameters(f"Unknown query parameter: {', '.join(unknown)}. This endpoint knows: {known}.")

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "private, no-store"
        return response

    @property
    def study(self) -> Study:
        """Raises `StudyNotFound` where the request names another study than the token's."""
        token = cast(ApiToken, self.request.auth)
        study = token.membership.study
        if self.request.query_params.get("study", study.slug) != study.slug:
            raise StudyNotFound(_NO_STUDY)
        return study


class ComparisonsView(StudyView):
    renderer_classes = [JSONRenderer, NdjsonRenderer]
    parameters = ("study", "cursor", "page_size")

    @extend_schema(
        operation_id="comparisons_list",
        summary="Comparisons, in the order in which they became final",
        description=(
            "Every comparison of the study with its candidates as the annotator saw them and the annotator's demographic answers. "
            "Keep the last `cursor`: handing it back later gives what was added, revised or erased since, and never skips a late "
            "commit. JSON comes in pages; `Accept: application/x-ndjson` streams everything after the cursor, one entry per line."
        ),
        parameters=[
            OpenApiParameter("study", description="Slug of the token's study; may be left out."),
            OpenApiParameter("cursor", description="Where to go on; empty: from the beginning."),
            OpenApiParameter("page_size", OpenApiTypes.INT, description=f"Entries per page, 1 to {MAXIMUM_PAGE_SIZE}."),
            _FORMAT,
        ],
        responses={
            (200, "application/json"): inline_serializer(
                "ComparisonPage",
                {
                    "next": serializers.CharField(allow_null=True, help_text="Address of the next page; null: nothing more for now."),
                    "cursor": serializers.CharField(help_text="Place after the last entry; keep it to get later changes."),
                    "results": _change(many=True),
                },
            ),
            (200, NdjsonRenderer.media_type): _change(many=False),
            **_ERRORS,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        study, after, watermark = self.study, decode_cursor(request.query_params.get("cursor", "")), current_watermark()
        size = self._page_size()
        if request.accepted_renderer.format == NdjsonRenderer.format:
            return StreamingHttpResponse(_stream(study, after, watermark), content_type="application/x-ndjson; charset=utf-8")
        entries = feed(study, after, watermark, size + 1)
        page = entries[:size]
        cursor = encode_cursor(page[-1].position if page else after)
        following = None
        if len(entries) > size:
            query = request.query_params.copy()
            query["cursor"] = cursor
            following = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
        return Response({"next": following, "cursor": cursor, "results": [entry_data(entry) for entry in page]})

    def _page_size(self) -> int:
        given = self.request.query_params.get("page_size", str(PAGE_SIZE))
        if not (given.isascii() and given.isdecimal() and len(given) <= 4 and 1 <= int(given) <= MAXIMUM_PAGE_SIZE):
            raise BadParameter(f"page_size is a whole number from 1 to {MAXIMUM_PAGE_SIZE}.")
        return int(given)


class StudiesView(StudyView):
    @extend_schema(
        operation_id="studies_list",
        summary="The token's study",
        parameters=[OpenApiParameter("format", enum=["json"])],
        responses={200: StudyListSerializer, **_ERRORS},
    )
    def get(self, request: Request) -> Response:
        return Response(StudyListSerializer({"results": [study_overview(self.study)]}).data)


class QuotasView(StudyView):
    @extend_schema(
        operation_id="studies_quotas",
        summary="The quota board",
        description="Target, reserved, completed, released and over of every quota cell, counted when asked, as on the desk's board.",
        parameters=[
            OpenApiParameter("slug", location=OpenApiParameter.PATH, description="Slug of the token's study."),
            OpenApiParameter("format", enum=["json"]),
        ],
        responses={200: QuotasSerializer, **_ERRORS},
    )
    def get(self, request: Request, slug: str) -> Response:
        study = self.study
        if slug != study.slug:
            raise StudyNotFound(_NO_STUDY)
        counted_at = iso(timezone.now())
        return Response(QuotasSerializer({"study": study.slug, "counted_at": counted_at, "cells": quota_board(study)}).data)


@extend_schema(exclude=True)
class NotFoundView(APIView):
    """Any other address below the API."""

    authentication_classes = []
    permission_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise exceptions.NotFound("There is no such endpoint; /api/v1/docs/ lists them.")


class _JsonErrors(APIView):
    """Failures of pages that answer in another format than JSON have the API's shape all the same."""

    def handle_exception(self, exc: Exception) -> Any:
        response = exception_handler(exc, {})
        if response is None:
            raise exc
        return JsonResponse(response.data, status=response.status_code)


class SchemaView(_JsonErrors, SpectacularAPIView):
    authentication_classes = []


class DocsView(_JsonErrors, SpectacularSwaggerSplitView):
    """The interactive page: markup and script are two requests, so that the page needs no inline script."""

    authentication_classes = []
    template_name = "api/docs.html"
    template_name_js = "api/docs.js"
    url_name = "api:schema"


def ndjson_line(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


def _stream(study: Study, after: Position, watermark: Watermark) -> Iterator[bytes]:
    """Everything after a position, read in chunks; the watermark of the start bounds it."""
    while entries := feed(study, after, watermark, STREAM_CHUNK):
        for entry in entries:
            yield ndjson_line(entry_data(entry))
        after = entries[-1].position
