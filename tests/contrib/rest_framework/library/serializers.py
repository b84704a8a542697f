"""What of the models is shown, and taken."""

from typing import Any, ClassVar

from django.contrib.auth.models import User
from rest_framework import serializers

from tests.contrib.rest_framework.library.models import Author, Book, Review


class AuthorSerializer(serializers.HyperlinkedModelSerializer[Author]):
    books: Any = serializers.HyperlinkedRelatedField(many=True, read_only=True, view_name="book-detail")

    class Meta:
        model = Author
        fields: ClassVar[list[str]] = ["url", "id", "name", "born", "books"]


class ReviewSerializer(serializers.ModelSerializer[Review]):
    owner = serializers.ReadOnlyField(source="owner.username")

    class Meta:
        model = Review
        fields: ClassVar[list[str]] = ["id", "book", "owner", "text", "stars"]
        extra_kwargs: ClassVar[dict[str, Any]] = {"stars": {"min_value": 1, "max_value": 5}}


class BookSerializer(serializers.ModelSerializer[Book]):
    author_name = serializers.CharField(source="author.name", read_only=True)
    reviews = ReviewSerializer(many=True, read_only=True)
    summary = serializers.SerializerMethodField()
    discount = serializers.IntegerField(write_only=True, required=False, min_value=0, max_value=90)

    class Meta:
        model = Book
        fields: ClassVar[list[str]] = [
            *("id", "title", "author", "author_name", "genre", "price", "pages", "cover", "published_at"),
            *("reviews", "summary", "discount"),
        ]

    def get_summary(self, book):  # type: ignore[no-untyped-def]
        return {"title": book.title, "long": book.pages > 300}

    def validate_title(self, title: str) -> str:
        if title.lower() == "forbidden":
            raise serializers.ValidationError("This title is forbidden.")
        return title

    def create(self, validated_data: dict[str, Any]) -> Book:
        discount = validated_data.pop("discount", 0)
        if validated_data.get("price") is not None:
            validated_data["price"] -= validated_data["price"] * discount / 100
        return super().create(validated_data)

    def update(self, instance: Book, validated_data: dict[str, Any]) -> Book:
        validated_data.pop("discount", None)
        return super().update(instance, validated_data)


class ShelfBookSerializer(serializers.Serializer[Any]):
    title = serializers.CharField(max_length=100)
    pages = serializers.IntegerField(default=0, min_value=0, max_value=10_000)


class ShelfSerializer(serializers.Serializer[Any]):
    """Several books at once, nested."""

    author = serializers.CharField(max_length=100)
    books = ShelfBookSerializer(many=True)


class RatingSerializer(serializers.Serializer[Any]):
    stars = serializers.IntegerField(min_value=1, max_value=5)


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields: ClassVar[list[str]] = ["id", "username"]
