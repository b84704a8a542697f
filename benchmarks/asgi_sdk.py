"""The official SDK's own server, with the quickest answer it has: JSON, without a stream or a session."""

from mcp.server import MCPServer

from benchmarks.functions import add, add_in_thread

server = MCPServer("benchmark", version="1", log_level="WARNING")
server.tool()(add)
server.tool()(add_in_thread)
application = server.streamable_http_app(json_response=True, stateless_http=True)
