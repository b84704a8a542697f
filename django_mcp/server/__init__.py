"""Compiling the registry and running exchanges; the only package that imports the SDK's `mcp.server`."""
