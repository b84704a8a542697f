"""One row for each run of a tool's body."""

from typing import ClassVar

from django.db import models


class Entry(models.Model):
    """What a run wrote, and the process that ran it."""

    note = models.CharField(max_length=100)
    process = models.PositiveIntegerField()

    objects: ClassVar[models.Manager["Entry"]] = models.Manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.note
