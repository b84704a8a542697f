"""The rules of a run, one noun per module: pure functions of a history and of what the database holds."""
