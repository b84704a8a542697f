"""A project that serves every feature that the official conformance suite asks of a server."""
