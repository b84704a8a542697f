"""Values and rules: the standard library only. No Django, no SDK, no I/O, no clock."""
