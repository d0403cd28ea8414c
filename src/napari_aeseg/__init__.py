"""Label-free segmentation: learn an autoencoder from the images, merge patches that look alike.

Names are loaded on first use (their modules are in ``__init__.pyi``): importing the package brings
in neither torch nor Qt.
"""

import lazy_loader

_load_public_name, _list_public_names, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-aeseg")
    return _load_public_name(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_list_public_names(), "__version__"})
