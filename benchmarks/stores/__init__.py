"""What each store costs: the same calls on servers that differ in `STORES` alone."""
