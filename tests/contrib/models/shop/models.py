"""Makers and what they make."""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models


class Maker(models.Model):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50, unique=True)
    secret = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    class Size(models.IntegerChoices):
        SMALL = 1
        LARGE = 2

    class Kind(models.TextChoices):
        TOOL = "tool"
        TOY = "toy"

    name = models.CharField(max_length=50, help_text="As on the label.")
    slug = models.SlugField(blank=True)
    text = models.TextField(blank=True)
    size = models.IntegerField(choices=Size.choices, default=Size.SMALL)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.TOOL)
    stock = models.PositiveIntegerField(default=0)
    small = models.SmallIntegerField(default=0)
    big = models.BigIntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True, blank=True)
    weight = models.FloatField(null=True, blank=True)
    is_sold = models.BooleanField(default=False)
    day = models.DateField(null=True, blank=True)
    at = models.DateTimeField(null=True, blank=True)
    clock = models.TimeField(null=True, blank=True)
    lasts = models.DurationField(null=True, blank=True)
    code = models.UUIDField(null=True, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    extra = models.JSONField(null=True, blank=True)
    photo = models.FileField(upload_to="photos", blank=True)
    raw = models.BinaryField(null=True, blank=True)
    hidden = models.CharField(max_length=50, blank=True)
    maker = models.ForeignKey(Maker, on_delete=models.PROTECT, null=True, blank=True, related_name="items")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)
    parts = models.ManyToManyField("self", blank=True, symmetrical=False)

    class Meta:
        ordering: ClassVar[list[Any]] = ["name"]

    def __str__(self) -> str:
        return self.name
