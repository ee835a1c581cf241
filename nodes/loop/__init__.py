"""The nodes of the loop, and the sessions that they continue."""
