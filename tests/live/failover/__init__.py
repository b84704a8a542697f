"""What one service of two processes keeps when a client goes from one to the other: named steps, and their stage."""
