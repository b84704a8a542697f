"""SQL that a client wrote."""

from typing import Annotated

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from pydantic import Field

from demo_project.desk.models import Airport, Booking, Itinerary, Leg
from demo_project.desk.query import QueryRefused
from demo_project.desk.query_run import run_query
from demo_project.desk.shapes import QueryAnswer
from django_mcp import Context, ToolError, tool
from django_mcp.conf import mcp_settings


@tool(read_only=True, open_world=False, permission="desk.view_airport")
def database_query(ctx: Context, sql: Annotated[str, Field(description="One SELECT")]) -> QueryAnswer:
    """Run one SELECT on the desk's tables.

    Tables: desk_airport (id, iata, icao, name, city, subdivision, country, elevation_ft, latitude, longitude,
    timezone) and, for users who may see them, desk_itinerary (id, owner_id, title, created_at), desk_leg (id,
    itinerary_id, position, origin_id, destination_id, departs_on) and desk_booking (id, itinerary_id, owner_id,
    traveller, reference, confirmed_by_id, created_at). Aggregates, joins, WITH, windows and the usual functions for
    text, numbers and dates are there.
    """
    try:
        found = run_query(
            sql,
            using=settings.DESK_QUERY_DATABASE,
            tables=_tables_for(ctx.user),
            max_rows=mcp_settings.MAX_ROWS,
            seconds=settings.DESK_QUERY_SECONDS,
        )
    except QueryRefused as reason:
        raise ToolError(str(reason)) from reason
    note = f"Cut at {len(found.rows)} rows; there are more." if found.cut else ""
    return QueryAnswer(columns=found.columns, rows=found.rows, note=note)


def _tables_for(user: AbstractUser | AnonymousUser) -> dict[str, set[str]]:
    """Return the tables that the user may see, each with its columns."""
    return {
        model._meta.db_table: {field.column for field in model._meta.concrete_fields if field.column}
        for model in (Airport, Itinerary, Leg, Booking)
        if user.has_perm(f"desk.view_{model._meta.model_name}")
    }
