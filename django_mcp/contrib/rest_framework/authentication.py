"""Authentication classes of Django REST framework on the endpoint, and access tokens on REST views."""

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication as RESTAuthentication
from rest_framework.authentication import RemoteUserAuthentication, SessionAuthentication
from rest_framework.exceptions import APIException
from rest_framework.exceptions import AuthenticationFailed as RESTAuthenticationFailed
from rest_framework.request import Request

from django_mcp.authentication import AccessTokenAuthentication as EndpointTokenAuthentication
from django_mcp.authentication import BaseAuthentication, Identity, principal_of
from django_mcp.exceptions import AuthenticationFailed, ConfigurationError


class EndpointAuthentication(BaseAuthentication):
    """A class of Django REST framework as one of the endpoint's, run once for each request there.

    Raises ConfigurationError for one that reads what Django's middleware leaves: no middleware runs there.
    """

    def __init__(self, kind: type[RESTAuthentication]) -> None:
        if issubclass(kind, SessionAuthentication | RemoteUserAuthentication):
            raise ConfigurationError(
                f"{kind.__name__} needs Django's middleware, which does not run at the endpoint; for the login "
                "cookie name django_mcp.authentication.LoginCookieAuthentication."
            )
        self.kind = kind
        self.scheme = (kind().authenticate_header(Request(HttpRequest())) or "").partition(" ")[0]  # type: ignore[misc]

    def authenticate(self, request: HttpRequest) -> Identity | None:
        try:
            found = self.kind().authenticate(Request(request))
        except APIException as error:
            raise AuthenticationFailed(str(error.detail)) from error
        if found is None:
            return None
        user, auth = found
        if user is None or user.is_anonymous or user.pk is None:
            raise AuthenticationFailed(f"{self.kind.__name__} found credentials without a user")
        return Identity(principal=principal_of(user), user=user, auth=auth)


class AccessTokenAuthentication(RESTAuthentication):
    """`Authorization: Bearer mcp_…`, an `MCPAccessToken`, for REST views: the tokens of the endpoint open them too."""

    def authenticate(self, request: Request) -> tuple[object, object] | None:
        try:
            identity = EndpointTokenAuthentication().authenticate(request._request)
        except AuthenticationFailed as error:
            raise RESTAuthenticationFailed from error
        return None if identity is None else (identity.user, identity.auth)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def same_authentication(endpoint: BaseAuthentication, own: RESTAuthentication) -> bool:
    """Say whether a class of the endpoint and one of a view believe the same credentials."""
    if isinstance(endpoint, EndpointAuthentication):
        return endpoint.kind is type(own)
    return isinstance(endpoint, EndpointTokenAuthentication) and type(own) is AccessTokenAuthentication
