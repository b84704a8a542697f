"""Processes that write the call log and delete from it at once, on real databases."""

import pytest

from django_mcp.contrib.call_log import models
from django_mcp.contrib.call_log.models import LoggedCall
from tests.contrib.call_log.conftest import finished
from tests.databases import together


def test_processes_write_and_delete_at_once(concurrent_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SWEEP_ROWS", 20)
    rows = LoggedCall.objects.using(concurrent_database)
    rows.log([finished(days_ago=31, tool="old")] * 100)

    def work(number: int) -> int:
        deleted = 0
        for step in range(10):
            rows.all().log([finished(tool=f"{number} {step}")] * 10)
            deleted += rows.all().sweep()
        return deleted

    deleted = together(6, work)
    assert sum(count for count in deleted if isinstance(count, int)) == 100
    assert [error for error in deleted if isinstance(error, BaseException)] == []
    assert rows.filter(tool="old").count() == 0
    assert rows.count() == 600
