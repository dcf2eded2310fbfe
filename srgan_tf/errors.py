"""Errors that the user can fix: a wrong key, a missing file, a damaged photo."""


def install_command(extra: str) -> str:
    """Return the command that installs an extra of this package, for messages."""
    return f"pip install 'srgan-tf[{extra}]'"


class UserError(ValueError):
    """An error that the user can fix; the message says how.

    Commands print it without a traceback and exit with code 2.
    """


class ImageError(Exception):
    """An image file that can't be read or written; the message names the file and the reason.

    Commands print it, continue with the other files if they can and exit with code 1.
    """
