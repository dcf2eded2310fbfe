"""The error that a user can mend: a wrong key, a missing file, an impossible request."""


class RequestError(ValueError):
    """A request that can't be carried out as it stands; the message says what to do.

    Commands print it without a traceback and exit with code 2.
    """
