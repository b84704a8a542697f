"""The views, with nothing in them that knows of MCP."""

from typing import Any, ClassVar

import django_filters.rest_framework as filters
from django.contrib.auth.models import User
from django.db.models import Count
from django.http import FileResponse, HttpResponse
from rest_framework import filters as rest_filters
from rest_framework import mixins, pagination, permissions, status, throttling, viewsets
from rest_framework.authentication import TokenAuthentication
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.contrib.rest_framework.library.models import Author, Book, Review
from tests.contrib.rest_framework.library.permissions import IsOwnerOrReadOnly
from tests.contrib.rest_framework.library.serializers import (
    AuthorSerializer,
    BookSerializer,
    RatingSerializer,
    ReviewSerializer,
    ShelfSerializer,
    UserSerializer,
)


class Pages(pagination.PageNumberPagination):
    page_size = 3
    page_size_query_param = "page_size"
    max_page_size = 50


class Limits(pagination.LimitOffsetPagination):
    default_limit = 2


class Cursor(pagination.CursorPagination):
    page_size = 2
    ordering = "id"


class FewADay(throttling.UserRateThrottle):
    rate = "3/day"
    scope = "few"


class AuthorViewSet(viewsets.ModelViewSet[Author]):
    """Authors, with links to their books."""

    queryset = Author.objects.prefetch_related("books")
    serializer_class = AuthorSerializer
    authentication_classes = (TokenAuthentication,)
    permission_classes = (permissions.DjangoModelPermissionsOrAnonReadOnly,)
    pagination_class = Limits

    @action(detail=True, permission_classes=[permissions.IsAdminUser])
    def sales(self, request: Request, pk: str | None = None) -> Response:
        """Tell how an author sells, to who may know."""
        return Response({"author": self.get_object().name, "sold": 7})


class BookViewSet(viewsets.ModelViewSet[Book]):
    """Books of the library."""

    queryset = Book.objects.select_related("author").prefetch_related("reviews__owner")
    serializer_class = BookSerializer
    authentication_classes = (TokenAuthentication,)
    permission_classes = (permissions.IsAuthenticatedOrReadOnly,)
    pagination_class = Pages
    filter_backends = (
        filters.DjangoFilterBackend,
        rest_filters.SearchFilter,
        rest_filters.OrderingFilter,
    )
    filterset_fields: ClassVar[dict[str, list[str]]] = {"genre": ["exact", "in"], "pages": ["gte", "lte"]}
    search_fields = (
        "title",
        "author__name",
    )
    ordering_fields = (
        "title",
        "pages",
    )

    def perform_destroy(self, instance: Book) -> None:
        if instance.reviews.exists():
            raise NotFound("Books with reviews stay.")
        instance.delete()

    @action(detail=True, methods=["post"], serializer_class=RatingSerializer)
    def rate(self, request: Any, pk: str | None = None) -> Response:
        """Rate a book with one to five stars."""
        book = self.get_object()
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        Review.objects.create(book=book, owner=request.user, text="", stars=given.validated_data["stars"])
        return Response(given.data, status=status.HTTP_201_CREATED)

    @action(detail=False)
    def genres(self, request: Request) -> Response:
        """Count the books of each genre."""
        return Response(list(Book.objects.order_by("genre").values("genre").annotate(count=Count("id"))))

    @action(detail=False, methods=["post"], serializer_class=ShelfSerializer)
    def shelve(self, request: Request) -> Response:
        """Add an author with several books."""
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        author = Author.objects.create(name=given.validated_data["author"])
        for book in given.validated_data["books"]:
            Book.objects.create(author=author, **book)
        return Response(given.data, status=status.HTTP_201_CREATED)

    @action(detail=True)
    def text(self, request: Request, pk: str | None = None) -> HttpResponse:
        """Return the book as plain text."""
        return HttpResponse(f"{self.get_object().title}\n", content_type="text/plain")

    @action(detail=True, url_path="cover-file")
    def cover_file(self, request: Request, pk: str | None = None) -> FileResponse:
        """Return the picture on the cover."""
        book = self.get_object()
        if not book.cover:
            raise NotFound
        return FileResponse(book.cover.open("rb"), content_type="image/png")


class ReviewViewSet(viewsets.ModelViewSet[Review]):
    """What readers say."""

    queryset = Review.objects.select_related("owner")
    serializer_class = ReviewSerializer
    authentication_classes = (TokenAuthentication,)
    permission_classes = (
        permissions.IsAuthenticatedOrReadOnly,
        IsOwnerOrReadOnly,
    )
    pagination_class = Cursor

    def perform_create(self, serializer: Any) -> None:
        serializer.save(owner=self.request.user)


class UserViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[User]):
    """Readers, for staff alone."""

    queryset = User.objects.order_by("id")
    serializer_class = UserSerializer
    authentication_classes = (TokenAuthentication,)
    permission_classes = (permissions.IsAdminUser,)
    lookup_field = "username"


class FortuneViewSet(viewsets.ViewSet):
    """A fortune, three times a day."""

    authentication_classes = (TokenAuthentication,)
    throttle_classes = (FewADay,)

    def list(self, request: Request) -> Response:
        """Return a fortune."""
        return Response(["You will read a book."])


class PingView(APIView):
    """Answer at once."""

    authentication_classes = (TokenAuthentication,)
    permission_classes = (permissions.IsAuthenticated,)

    def get(self, request: Request, year: int) -> Response:
        return Response({"user": request.user.get_username(), "year": year, "query": request.query_params.dict()})

    def post(self, request: Request, year: int) -> Response:
        return Response({"got": request.data}, status=status.HTTP_202_ACCEPTED)


@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([permissions.AllowAny])
def hello(request: Request) -> Response:
    """Say hello."""
    return Response("hello")
