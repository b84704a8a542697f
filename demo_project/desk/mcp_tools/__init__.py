"""What the desk offers to MCP clients: tools, resources, a prompt, completions.

`django_mcp` imports this package by itself, and this package the modules in which they stand.
"""

from demo_project.desk.mcp_tools import rest
from demo_project.desk.mcp_tools.airport_resources import (
    airport_by_code,
    airports_of_country,
    complete_country,
    complete_iata,
    countries,
)
from demo_project.desk.mcp_tools.airports import distance, export_airports, search_airports
from demo_project.desk.mcp_tools.bookings import book, my_bookings
from demo_project.desk.mcp_tools.drafts import draft_leg, drop_leg, keep_draft, show_draft
from demo_project.desk.mcp_tools.itineraries import my_itineraries, plan_itinerary
from demo_project.desk.mcp_tools.preferences import my_preferences, set_preferences
from demo_project.desk.mcp_tools.query import database_query
from demo_project.desk.mcp_tools.trip_brief import complete_destination, complete_origin, trip_brief

__all__ = [
    "airport_by_code",
    "airports_of_country",
    "book",
    "complete_country",
    "complete_destination",
    "complete_iata",
    "complete_origin",
    "countries",
    "database_query",
    "distance",
    "draft_leg",
    "drop_leg",
    "export_airports",
    "keep_draft",
    "my_bookings",
    "my_itineraries",
    "my_preferences",
    "plan_itinerary",
    "rest",
    "search_airports",
    "set_preferences",
    "show_draft",
    "trip_brief",
]
