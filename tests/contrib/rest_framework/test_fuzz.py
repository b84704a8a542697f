"""Calls that a program makes from the schemas alone: whatever fits is answered, never by a failure of the server."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_mcp import Server
from django_mcp.server.compile import compiled
from django_mcp.testing import Client
from tests.contrib.rest_framework.conftest import EVERY_ACTION
from tests.contrib.rest_framework.drawn import fitting

FAILED = ("failed.", "The view failed.")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_call_that_fits_its_schema_never_fails_the_server(library: Server, data: Any) -> None:
    tools = compiled(library).tools
    name = data.draw(st.sampled_from(sorted(set(tools) - {"fortune_list"})))
    arguments = data.draw(fitting(tools[name].input_schema))
    user = User.objects.get(username=data.draw(st.sampled_from(["owner", "reader", "staff"])))
    with transaction.atomic():
        result = Client(user, server=library.name).call(name, arguments)
        transaction.set_rollback(True)
    if result.is_error:
        assert not result.text.endswith(FAILED), (name, arguments, result.text)
    elif (told := tools[name].output_schema) is not None:
        jsonschema.validate(result.structured, told)


@pytest.mark.parametrize("action", EVERY_ACTION)
def test_every_action_is_among_the_tools(library: Server, action: str) -> None:
    assert [name for name in compiled(library).tools if name.endswith(f"_{action}")]
