"""The REST routes, and the endpoint beside them."""

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from tests.contrib.rest_framework.library import views

router = DefaultRouter()
router.register("authors", views.AuthorViewSet)
router.register("books", views.BookViewSet)
router.register("reviews", views.ReviewViewSet)
router.register("users", views.UserViewSet)
router.register("fortunes", views.FortuneViewSet, basename="fortune")

urlpatterns = [
    path("api/", include(router.urls)),
    path("api/ping/<int:year>/", views.PingView.as_view(), name="ping"),
    path("api/hello/", views.hello, name="hello"),
    path("mcp", include("django_mcp.urls")),
]
