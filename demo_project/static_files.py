"""Static files straight from the apps, under ASGI and WSGI, so that nothing has to be collected for a demo."""

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler, StaticFilesHandler
from django.core.exceptions import SuspiciousFileOperation
from django.http import FileResponse, Http404, HttpRequest, HttpResponse


class StaticFilesASGI(ASGIStaticFilesHandler):
    """Serve static files before an ASGI application."""

    def serve(self, request: HttpRequest) -> HttpResponse | FileResponse:
        """Serve one file; a path that leaves the folder is not there."""
        try:
            return super().serve(request)
        except SuspiciousFileOperation as error:
            raise Http404(request.path) from error


class StaticFilesWSGI(StaticFilesHandler):
    """Serve static files before a WSGI application."""

    def serve(self, request: HttpRequest) -> HttpResponse | FileResponse:
        """Serve one file; a path that leaves the folder is not there."""
        try:
            return super().serve(request)
        except SuspiciousFileOperation as error:
            raise Http404(request.path) from error
