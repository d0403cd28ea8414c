"""Contact sheets: several pictures with captions on one page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_COLUMNS = 3
_MARGIN, _TEXT_SIZE = 12, 15  # pixels


def contact_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Lay pictures out in rows of three (four in two rows), each with its caption below.

    Pictures are uint8, shape (Y, X, 3), all of the same shape; so is the page, which is white.

    Examples
    --------
    >>> contact_sheet([np.zeros((100, 200, 3), np.uint8)] * 2, ["one", "two"]).shape
    (143, 436, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width, _ = pictures[0].shape
    font = ImageFont.load_default(_TEXT_SIZE)
    # A narrow picture leaves room for its caption.
    width = max(width, *(round(font.getlength(caption)) for caption in captions))
    columns = 2 if len(pictures) == 4 else min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    across, down = width + _MARGIN, height + _TEXT_SIZE + 4 + _MARGIN
    page = Image.new("RGB", (_MARGIN + columns * across, _MARGIN + rows * down), "white")
    draw = ImageDraw.Draw(page)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * across, _MARGIN + row * down
        page.paste(Image.fromarray(picture), (x, y))
        draw.text((x, y + height + 2), caption, "black", font)
    return np.asarray(page)
