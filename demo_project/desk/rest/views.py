"""The viewsets."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, viewsets
from rest_framework.filters import SearchFilter
from rest_framework.pagination import PageNumberPagination

from demo_project.desk.models import Airport, Itinerary
from demo_project.desk.rest.permissions import ModelPermissions
from demo_project.desk.rest.serializers import AirportSerializer, ItinerarySerializer, TitleSerializer
from django_mcp.contrib.rest_framework import AccessTokenAuthentication


class Pages(PageNumberPagination):
    """Twenty at a time."""

    page_size = 20


class AirportViewSet(viewsets.ReadOnlyModelViewSet[Airport]):
    """Airports with an IATA code, by name, city or code."""

    queryset = Airport.objects.filter(iata__isnull=False)
    serializer_class = AirportSerializer
    authentication_classes = (AccessTokenAuthentication,)
    permission_classes = (ModelPermissions,)
    pagination_class = Pages
    filter_backends = (SearchFilter,)
    search_fields = ("=iata", "name", "city")
    lookup_field = "iata"
    lookup_value_regex = "[A-Z]{3}"


class ItineraryViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.CreateModelMixin,
    mixins.UpdateModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet[Itinerary],
):
    """The caller's itineraries; everybody's for who may change any."""

    queryset = Itinerary.objects.select_related("owner").prefetch_related("legs__origin", "legs__destination")
    authentication_classes = (AccessTokenAuthentication,)
    permission_classes = (ModelPermissions,)
    pagination_class = Pages
    http_method_names = ("get", "post", "patch", "delete", "head", "options")

    def get_queryset(self) -> QuerySet[Itinerary]:
        """Return what the caller may see."""
        return super().get_queryset() & Itinerary.objects.changeable_by(self.request.user)

    def get_serializer_class(self) -> Any:
        """Return what the action takes."""
        return TitleSerializer if self.action == "partial_update" else ItinerarySerializer
