"""One run: the order of work, the session that performs and records it, its folder."""
