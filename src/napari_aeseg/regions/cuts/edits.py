"""Edits by hand: merge the labels of patches, split a label along the merge tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array

from napari_aeseg.errors import InputError

if TYPE_CHECKING:
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
    """The label of a patch is divided in two.

    Parameters
    ----------
    patch : int
        Patch id. If its label has no other patch, nothing changes.
    part : tuple of int
        Patch ids: those of them that have the label of `patch` get a new one, so that the border
        is the same in every cut and tree. Empty: the parts are those that were merged last.

    Examples
    --------
    >>> Split(3)
    Split(patch=3, part=())
    """

    patch: int
    part: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", _checked_patch(self.patch))
        object.__setattr__(self, "part", tuple(_checked_patch(p) for p in self.part))

    @property
    def patches(self) -> tuple[int, ...]:
        """All patches that are named."""
        return (self.patch, *self.part)

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        part = {"part": list(self.part)} if self.part else {}
        return {"split": self.patch, **part}

    def apply(self, labels: np.ndarray, tree: MergeTree) -> None:
        """Change labels of patches in place; see `edited`."""
        here = labels == labels[self.patch]
        if self.part:
            smaller = np.array(self.part)
            smaller = smaller[here[smaller]]
        else:
            smaller = self._part_merged_last(np.flatnonzero(here[tree.leaf_order[0]]), tree)
        if 0 < len(smaller) < here.sum():
            labels[smaller] = labels.max() + 1

    def _part_merged_last(self, places: np.ndarray, tree: MergeTree) -> np.ndarray:
        """The smaller of the parts that were merged last; `places` are those in the leaf order."""
        order = tree.leaf_order[0]
        if len(places) == 1:
            return places[:0]
        # Two patches of the label are joined by the last merge among the gaps between them.
        costliest = np.maximum.reduceat(tree.gap_merges[: places[-1]], places[:-1]).argmax() + 1
        parts = order[places[:costliest]], order[places[costliest:]]
        return min(parts, key=lambda part: (tree.size[part].sum(), -part.min()))


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
        if max(edit.patches) >= tree.leaves:
            raise InputError(
                f"Patch {max(edit.patches)}: this image has patches 0 to {tree.leaves - 1}."
            )
        edit.apply(result, tree)
    return result


def edits_on(
    patches: np.ndarray, edits: Iterable[Edit], made_on: np.ndarray
) -> tuple[list[Edit], list[Edit]]:
    """Carry edits over to other patches of the same image, by the pixels they have in common.

    `patches` and `made_on` hold the id of each pixel's patch. Returned are the edits on `patches`,
    and those that mean nothing there, such as a merge of what is one patch now.
    """
    shared = coo_array((np.ones(made_on.size), (made_on.ravel(), patches.ravel()))).tocsr()
    new_of, old_of = shared.argmax(axis=1), shared.argmax(axis=0)
    moved: list[Edit] = []
    lost: list[Edit] = []
    for edit in edits:
        if isinstance(edit, Merge):
            joined = tuple(dict.fromkeys(new_of[list(edit.patches)].tolist()))
            if len(joined) < 2:
                lost.append(edit)
            else:
                moved.append(Merge(joined))
            continue
        part = tuple(np.flatnonzero(np.isin(old_of, edit.part)).tolist())
        if edit.part and not part:
            lost.append(edit)
        else:
            moved.append(Split(int(new_of[edit.patch]), part))
    return moved, lost


def edit_of(record: object) -> Edit:
    """Return the edit that a record describes: ``{"merge": [3, 8]}`` or ``{"split": 3}``."""
    match record:
        case {"merge": [*patches]}:
            return Merge(tuple(patches))
        case {"split": patch, "part": [*part]}:
            return Split(_checked_patch(patch), tuple(part))
        case {"split": patch}:
            return Split(_checked_patch(patch))
    raise InputError(f"{record!r} is not an edit: expected {{'merge': [3, 8]}} or {{'split': 3}}.")


def _checked_patch(patch: object) -> int:
    if isinstance(patch, bool) or not isinstance(patch, int | np.integer) or patch < 0:
        raise InputError(f"patch = {patch!r}: give the id of a patch, 0 or more.")
    return int(patch)
