"""Errors of the project. None is a `RuntimeError`: superqt's generator workers swallow those."""

# The words of torch's allocators: CUDA and MPS, the CPU (on Linux, Windows, and through C++),
# cuBLAS and cuDNN, MPS for a single array, and cuDNN where no algorithm has the memory it needs.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "status_alloc_failed",
    "invalid buffer size",
    "unable to find an engine",
)


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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device (or the host) ran out of memory."""
    # torch raises a RuntimeError, or one of its subclasses.
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)
    )


def sanitized(value: object, max_length: int = 300) -> str:
    r"""Return text from an untrusted file for display: shortened, without control characters."""
    text = str(value)
    short = text if len(text) <= max_length else f"{text[:max_length]} ..."
    # A terminal would obey control characters, and surrogates cannot be encoded.
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in short
    )
