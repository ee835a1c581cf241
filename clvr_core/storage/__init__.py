"""Files written whole or not at all, and PNGs that carry the trajectory of their run."""
