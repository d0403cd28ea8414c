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
