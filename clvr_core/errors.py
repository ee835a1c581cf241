"""Errors whose messages are sentences to the person who can fix the cause."""


class BadInput(ValueError):
    """Input that cannot be used. The message says what is wrong, where, the value found, and what to do."""


class JudgeFailure(RuntimeError):
    """A vision-language model gave no usable answer. Says nothing about the picture."""
