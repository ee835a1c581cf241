"""The shared core of CLVR. Importing it loads neither torch nor transformers nor diffusers."""

__version__ = "0.1.0"
