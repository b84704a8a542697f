"""What a project may add: an app of its own, or what needs a package that a project may not have, one each."""
