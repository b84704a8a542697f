"""What a verb is. A verb writes what was asked for to `stdout`, and what is only for people to `stderr`."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import OutputWrapper


class Verb(ABC):
    name: ClassVar[str]
    help: ClassVar[str]

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments; none by default."""
        return

    @abstractmethod
    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        """Do it. Raises CommandError, with the remedy, for what the caller can put right."""
