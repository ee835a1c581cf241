"""What can go wrong, in sentences to the person who can mend it."""


class BadInput(ValueError):
    """The request cannot be run as it stands. The message says what is wrong, the value found, and what to do."""


class JudgeFailure(RuntimeError):
    """A vision-language model gave no usable answer. Never a verdict about the picture."""
