"""A shop: one model with a column of every kind, and one that others must not see."""
