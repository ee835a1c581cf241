"""Errors whose messages are sentences to the person who can fix the cause."""


class BadInput(ValueError):
    """Input that cannot be used. The message says what is wrong, where, the value found, and what to do."""


class CannotWrite(BadInput):
    """A file could not be written.

    of_disk: whether the whole disk is at fault (full, read-only, broken, a limit of size), so that no other file can be
        written either.
    """

    def __init__(self, message: str, of_disk: bool = False) -> None:
        super().__init__(message)
        self.of_disk = of_disk


class JudgeFailure(RuntimeError):
    """A vision-language model gave no usable answer. Says nothing about the picture."""


class Away(Exception):
    """A server gives no answer and was waited for in vain. It is nobody's verdict: nothing of the call is recorded, and
    the run can be gone on with once the server is back.

    said: what the server answered, or why it did not.
    """

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said or message
