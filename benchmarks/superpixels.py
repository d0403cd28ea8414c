"""The scikit-image route: superpixels merged one by one. Apart: it can be run without torch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from skimage import graph, segmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Enough(Exception):
    """As few regions are left as were asked for."""


def merged_superpixels(image: NDArray, n_superpixels: int, n_regions: int) -> NDArray:
    """Return labels of an RGB image: SLIC, region graph of mean colours, hierarchical merging.

    `merge_hierarchical` takes a threshold, not a number. It is stopped at the right number, which
    spares it the search for a threshold.
    """
    small = segmentation.slic(image, n_segments=n_superpixels, start_label=0)
    rag = graph.rag_mean_color(image, small)
    left = rag.number_of_nodes()

    def merge(rag: graph.RAG, src: int, dst: int) -> None:
        nonlocal left
        if left <= n_regions:
            raise _Enough
        left -= 1
        a, b = rag.nodes[src], rag.nodes[dst]
        b["total color"] += a["total color"]
        b["pixel count"] += a["pixel count"]
        b["mean color"] = b["total color"] / b["pixel count"]

    def weight(rag: graph.RAG, _src: int, dst: int, neighbour: int) -> dict[str, float]:
        difference = rag.nodes[dst]["mean color"] - rag.nodes[neighbour]["mean color"]
        return {"weight": float(np.linalg.norm(difference))}

    with suppress(_Enough):
        graph.merge_hierarchical(small, rag, np.inf, False, True, merge, weight)
    region = np.zeros(small.max() + 1, np.int32)
    for label, (_, node) in enumerate(rag.nodes(data=True), 1):
        region[node["labels"]] = label
    return region[small]
