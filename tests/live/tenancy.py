"""The tenant of a request: what the tests' own header says."""

from django.http import HttpRequest


def tenant_of(request: HttpRequest) -> str:
    """Return the value of `X-Tenant`."""
    return request.headers.get("x-tenant", "")
