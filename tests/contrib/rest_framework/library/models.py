"""Books, authors, reviews."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100)
    born = models.DateField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        permissions: ClassVar[list[Any]] = [("see_sales", "May see how authors sell")]

    def __str__(self) -> str:
        return self.name


class Book(models.Model):
    class Genre(models.TextChoices):
        FICTION = "fiction"
        SCIENCE = "science"

    title = models.CharField(max_length=100, help_text="As it stands on the cover.")
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    genre = models.CharField(max_length=10, choices=Genre.choices, default=Genre.FICTION)
    price = models.DecimalField(max_digits=6, decimal_places=2, null=True, blank=True)
    pages = models.PositiveIntegerField(default=0)
    cover = models.FileField(upload_to="covers", blank=True)
    secret_note = models.TextField(blank=True)
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.title


class Review(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="reviews")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.TextField()
    stars = models.PositiveSmallIntegerField(default=3)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text[:20]
