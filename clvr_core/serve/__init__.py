"""The loop behind HTTP: a brief in, a verified picture out."""
