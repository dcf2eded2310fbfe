"""The errors that a user can mend: a wrong key, a missing file, a broken photo."""


class RequestError(ValueError):
    """A request that can't be carried out as it stands; the message says what to do.

    Commands print it without a traceback and exit with code 2.
    """


class ImageError(Exception):
    """An image file that can't be read or written; the message names it and what is wrong.

    Commands print it, go on with the other files, and exit with code 1.
    """
