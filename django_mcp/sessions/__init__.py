"""Sessions and what lasts beyond one request. Knows the models and the stores; nothing of tools, the SDK or HTTP."""
