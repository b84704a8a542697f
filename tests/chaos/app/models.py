"""What really happened, beside what clients were told: each row is committed by itself the moment it is written."""

import os
from typing import ClassVar

from django.db import models
from django.utils import timezone


class RunManager(models.Manager["Run"]):
    def begin(self, key: str, tool: str) -> "Run":
        """Note that the body of a tool runs for the call `key` from now on, in this process."""
        return self.create(key=key, tool=tool, process=os.getpid(), began_at=timezone.now())

    async def abegin(self, key: str, tool: str) -> "Run":
        return await self.acreate(key=key, tool=tool, process=os.getpid(), began_at=timezone.now())


class Run(models.Model):
    """One run of a tool's body."""

    key = models.CharField(max_length=100)
    tool = models.CharField(max_length=50)
    process = models.PositiveIntegerField()
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    objects: ClassVar[RunManager] = RunManager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.key} in {self.process}"

    def end(self) -> None:
        """Note that the body came to its end."""
        Run.objects.filter(pk=self.pk).update(ended_at=timezone.now())

    async def aend(self) -> None:
        await Run.objects.filter(pk=self.pk).aupdate(ended_at=timezone.now())


class Topic(models.Model):
    """Something that clients subscribe to."""

    name = models.CharField(max_length=50, primary_key=True)
    version = models.PositiveIntegerField(default=0)

    objects: ClassVar[models.Manager["Topic"]] = models.Manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Tally(models.Model):
    """A row that stands and falls with the state of a conversation."""

    label = models.CharField(max_length=100)
    key = models.CharField(max_length=100)

    objects: ClassVar[models.Manager["Tally"]] = models.Manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.label} {self.key}"
