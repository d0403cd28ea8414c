"""Edits by hand: merge the labels of patches, split a label along the merge tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_aeseg.regions.tree.merge_tree import MergeTree


@dataclass(frozen=True, slots=True)
class Merge:
    """All labels that some patches have become one: the smallest of them.

    Parameters
    ----------
    patches : tuple of int
        Patch ids, at least two distinct ones. If they have one label already, nothing changes.

    Examples
    --------
    >>> Merge((3, 8))
    Merge(patches=(3, 8))
    """

    patches: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "patches", tuple(_checked_patch(p) for p in self.patches))
        if len(set(self.patches)) < 2:
            raise InputError(f"patches = {self.patches}: name at least two patches to merge.")

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"merge": list(self.patches)}

    def apply(self, labels: np.ndarray, tree: MergeTree) -> None:
        """Change labels of patches in place; see `edited`."""
        merged = np.unique(labels[list(self.patches)])
        labels[np.isin(labels, merged)] = merged[0]


@dataclass(frozen=True, slots=True)
class Split:
    """The label of a patch is divided in two where its parts were merged last.

    Parameters
    ----------
    patch : int
        Patch id. If its label has no other patch, nothing changes.

    Examples
    --------
    >>> Split(3)
    Split(patch=3)
    """

    patch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", _checked_patch(self.patch))

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"split": self.patch}

    def apply(self, labels: np.ndarray, tree: MergeTree) -> None:
        """Change labels of patches in place; see `edited`."""
        order = tree.leaf_order[0]
        places = np.flatnonzero(labels[order] == labels[self.patch])
        if len(places) == 1:
            return
        # Two patches of the label are joined by the last merge among the gaps between them.
        costliest = np.maximum.reduceat(tree.gap_merges[: places[-1]], places[:-1]).argmax() + 1
        parts = order[places[:costliest]], order[places[costliest:]]
        smaller = min(parts, key=lambda part: (tree.size[part].sum(), -part.min()))
        labels[smaller] = labels.max() + 1


Edit = Merge | Split


def edited(labels: np.ndarray, tree: MergeTree, edits: Iterable[Edit]) -> np.ndarray:
    """Apply edits to the labels (P,) of patches, one after the other; return int32.

    Edits name patches, not labels, so that they can be replayed on any other cut of the same
    patches; an edit that has nothing to change there is skipped.

    A merge leaves the smallest of the labels it joins. A split hands the label on to the part with
    more pixels (of equals, the one with the smallest patch id); the other one gets a new label, the
    largest and one more. All others stay, so that after a merge there can be gaps between them.
    """
    result = np.array(labels, np.int32)  # a copy: edits are applied in place
    for edit in edits:
        patches = edit.patches if isinstance(edit, Merge) else (edit.patch,)
        if max(patches) >= tree.leaves:
            raise InputError(
                f"Patch {max(patches)}: this image has patches 0 to {tree.leaves - 1}."
            )
        edit.apply(result, tree)
    return result


def edit_of(record: object) -> Edit:
    """Return the edit that a record describes: ``{"merge": [3, 8]}`` or ``{"split": 3}``."""
    match record:
        case {"merge": [*patches]}:
            return Merge(tuple(patches))
        case {"split": patch}:
            return Split(_checked_patch(patch))
    raise InputError(f"{record!r} is not an edit: expected {{'merge': [3, 8]}} or {{'split': 3}}.")


def _checked_patch(patch: object) -> int:
    if isinstance(patch, bool) or not isinstance(patch, int | np.integer) or patch < 0:
        raise InputError(f"patch = {patch!r}: give the id of a patch, 0 or more.")
    return int(patch)
