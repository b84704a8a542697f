"""The same servers for callers with an access token only."""

from tests.live import settings as live
from tests.live.settings import *  # noqa: F403

DJANGO_MCP = {**live.DJANGO_MCP, "ACCESS": "required"}
