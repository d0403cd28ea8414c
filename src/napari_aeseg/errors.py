"""Errors of the project. None is a `RuntimeError`: superqt's generator workers swallow those."""


class AesegError(Exception):
    """Base of every error that napari-aeseg raises on purpose."""


class InputError(AesegError, ValueError):
    """An image, an axes string or a parameter that cannot be used; the text says how to fix it."""


class ModelFileError(AesegError):
    """A model file that is damaged, foreign, or of a newer format."""


class HierarchyFileError(AesegError):
    """A saved hierarchy that is damaged, foreign, or of a newer format."""


class DeviceError(AesegError):
    """A device that is not there, or that failed with no other device left to try."""


class StoppedError(AesegError):
    """Work that was asked to stop before there was a result to keep."""


def sanitized(value: object, most: int = 300) -> str:
    r"""Return text of a file that nobody vouches for, to be shown: cut, and nothing but letters.

    Examples
    --------
    >>> sanitized("9.0\x1b[2J", most=9), sanitized("a" * 99, most=5)
    ('9.0\\x1b[2J', 'aaaaa ...')
    """
    text = str(value)
    kept = text if len(text) <= most else f"{text[:most]} ..."
    # Not encodable, or obeyed by a terminal: written as in Python.
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in kept
    )
