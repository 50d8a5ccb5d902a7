"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Something the user gave is wrong: a file, a row, a field, an option.

    The message says what is wrong, where (file, row, field) and what to do. The command line prints
    it without a traceback and exits with code 2.
    """
