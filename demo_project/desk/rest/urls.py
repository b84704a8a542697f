"""Where the viewsets are."""

from rest_framework.routers import SimpleRouter

from demo_project.desk.rest.views import AirportViewSet, ItineraryViewSet

router = SimpleRouter()
router.register("airports", AirportViewSet)
router.register("itineraries", ItineraryViewSet)

urlpatterns = router.urls
