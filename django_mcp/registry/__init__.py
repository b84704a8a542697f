"""What a project offers: decorators record it here, `server/` compiles it once.

This floor knows neither the SDK's server package nor sessions: a definition is a value, a server is a list of them.
"""
