"""``python -m napari_aeseg.cli`` is ``napari-aeseg``."""

import sys

from napari_aeseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
