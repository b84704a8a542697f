"""What needs a package that a project may not have: one optional dependency each."""
