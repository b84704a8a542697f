"""Plain views, with nothing in them that knows of MCP, and their URLconf."""

import io
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.shortcuts import redirect
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import include, path
from django.views import View
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST


class NoteForm(forms.Form):
    text = forms.CharField(max_length=10)
    urgent = forms.BooleanField(required=False)
    tags = forms.MultipleChoiceField(choices=[("a", "A"), ("b", "B")], required=False)
    scan = forms.FileField(required=False)


def echo(request: HttpRequest, year: int = 0) -> JsonResponse:
    """Tell what was asked."""
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "query": request.GET.dict(),
            "tags": request.GET.getlist("tag"),
            "user": request.user.get_username(),
            "year": year,
            "cookies": len(request.COOKIES),
            "authorization": request.headers.get("authorization"),
        }
    )


@csrf_protect
@require_POST
@login_required
def note(request: HttpRequest) -> HttpResponse:
    """Keep a note."""
    form = NoteForm(request.POST, request.FILES)
    if not form.is_valid():
        return JsonResponse(form.errors.get_json_data(), status=400)
    scan = form.cleaned_data["scan"]
    told = {**form.cleaned_data, "scan": None if scan is None else [scan.name, scan.read().decode()]}
    return JsonResponse(told)


@permission_required("auth.change_user")
def rename(request: HttpRequest, username: str) -> HttpResponse:
    """Rename a user."""
    user = User.objects.get(username=username)
    user.first_name = request.POST["first_name"]
    user.save()
    return redirect("space:echo")


class Users(PermissionRequiredMixin, View):
    """List the users."""

    permission_required = "auth.view_user"
    raise_exception = True

    def get(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse(list(User.objects.order_by("pk").values_list("username", flat=True)), safe=False)

    def post(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse({"type": request.content_type, "body": request.body.decode()})


def answer(request: HttpRequest, kind: str) -> Any:
    """Answer in one of many ways."""
    match kind:
        case "page":
            return HttpResponse("<html><title>A page</title><p>Read me.</p></html>")
        case "template":
            template = engines["django"].from_string("<b>{{ user.username }} &amp; co</b>")
            return TemplateResponse(request, template)
        case "text":
            return HttpResponse("plain\n", content_type="text/plain")
        case "file":
            return FileResponse(io.BytesIO(b"\x00\x01"), content_type="application/pdf")
        case "empty":
            return HttpResponse(status=204)
        case "away":
            return redirect("/elsewhere/")
        case "forbidden":
            return HttpResponseForbidden("<h1>Not &amp; <b>here</b></h1>")
        case "titled":
            return HttpResponse("<title>It is \n gone</title><p>secret</p>", status=410)
        case "broken":
            return HttpResponse("the inner details", status=500)
        case "bad":
            raise BadRequest("secret")
        case "raises":
            raise RuntimeError("secret")
    raise Http404("secret")


async def slow(request: HttpRequest) -> HttpResponse:
    """Be async."""
    return HttpResponse("slow")


inner = [
    path("echo/", echo, name="echo"),
    path("echo/<int:year>/", echo, name="year"),
    path("note/", note, name="note"),
    path("rename/<username>/", rename, name="rename"),
    path("users/", login_required(Users.as_view()), name="users"),
    path("answer/<kind>/", answer, name="answer"),
    path("slow/", slow, name="slow"),
]
urlpatterns = [path("site/", include((inner, "space")))]
