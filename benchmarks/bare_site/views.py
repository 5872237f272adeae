from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from benchmarks.bare_site.models import Answer, Item


@login_not_required
def item(request: HttpRequest, pk: int) -> HttpResponse:
    """GET shows an item (one select), POST stores an answer to it (one insert) and leads to the next."""
    if request.method == "POST":
        Answer.objects.create(item_id=pk, choice=request.POST["choice"], explanation=request.POST["explanation"])
        return HttpResponse(status=303, headers={"Location": f"/bare/{pk + 1}/", "Content-Length": "0"})
    page = render(request, "item.html", {"item": Item.objects.get(pk=pk)})
    page.headers["Content-Length"] = str(len(page.content))  # without it gunicorn sends chunks in the smallest project
    return page


urlpatterns = [path("bare/<int:pk>/", item)]
