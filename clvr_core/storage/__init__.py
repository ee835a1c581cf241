"""Files that are whole or not there, and pictures that carry their run."""
