"""The functions as tools of ours."""

from benchmarks.functions import add, add_in_thread
from django_mcp import tool

tool(add)
tool(add_in_thread)
