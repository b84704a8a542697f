"""Real servers over real sockets: what only shows when processes serve."""
