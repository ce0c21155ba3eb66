"""The one exception a person is meant to read."""


class InputError(ValueError):
    """Something given to the program cannot be used.

    The message is one clear sentence for a person: what is wrong, where, and what to do.
    The command line prints it without a traceback and ends with a non-zero exit code.
    """
