"""The desk's REST API. It knows nothing of MCP but that an access token opens it, too."""
