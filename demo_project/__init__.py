"""A travel desk over the world's airports, served to MCP clients: the project to copy from."""
