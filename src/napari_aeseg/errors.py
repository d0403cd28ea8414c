"""Errors of the project. None is a `RuntimeError`: superqt's generator workers swallow those."""


class AesegError(Exception):
    """Base of every error that napari-aeseg raises on purpose."""


class InputError(AesegError, ValueError):
    """An image, axes or a parameter that cannot be used; the text says how to fix it."""


class ModelFileError(AesegError):
    """A model file that is damaged, foreign, or of a newer format."""


class HierarchyFileError(AesegError):
    """A saved hierarchy that is damaged, foreign, or of a newer format."""


class DeviceError(AesegError):
    """A device that is not available, or too little memory on every device."""


class StoppedError(AesegError):
    """Work that was asked to stop before there was a result to keep."""


def sanitized(value: object, max_length: int = 300) -> str:
    r"""Return text from an untrusted file for display: shortened, without control characters."""
    text = str(value)
    short = text if len(text) <= max_length else f"{text[:max_length]} ..."
    # A terminal would obey control characters, and surrogates cannot be encoded.
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in short
    )
