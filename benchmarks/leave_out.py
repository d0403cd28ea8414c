"""Fit a constant, and measure whether the choice holds for images that it was not fitted on.

    python benchmarks/leave_out.py \
        napari_aeseg.regions.compare.auto_scale._COLOUR_FALLS_SHORT .2 .28 .36

The constant is named by the module that uses it. Every value is scored on every set; then the best
value is chosen with each subject (sets of like images) left out in turn, and scored on that one.
Where the mean of these scores is well below the mean of the value chosen on all, the choice does
not hold. Scores of single images are kept in the JSON file: a second run with more values or sets
measures only these. Delete it when anything else has changed.
"""

from __future__ import annotations

import json
import sys
from ast import literal_eval
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

import napari_aeseg as aeseg
import quality
import scores
from ours import Ours, computed_again, segmented

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    #: Set, image, value: the scores of all cuts.
    Scores = dict[str, dict[str, dict[str, list[float]]]]


@dataclass(frozen=True)
class Choice:
    """The value with the best mean over groups, and the best with each group left out."""

    fitted: str
    fitted_mean: float
    #: Group to the value that is best for the others, and its score on this group.
    left_out: dict[str, tuple[str, float]]

    @property
    def left_out_mean(self) -> float:
        return float(np.mean([score for _, score in self.left_out.values()]))


def choose(values: Mapping[str, Mapping[str, float]]) -> Choice:
    """Choose from ``values[value][group]``, the first of equal ones.

    Examples
    --------
    >>> choice = choose({"1": {"a": 0.9, "b": 0.4}, "2": {"a": 0.2, "b": 0.6}})
    >>> choice.fitted, choice.left_out
    ('1', {'a': ('2', 0.2), 'b': ('1', 0.4)})
    """
    groups = list(next(iter(values.values())))

    def best(chosen: list[str]) -> str:
        return max(values, key=lambda value: np.mean([values[value][g] for g in chosen]))

    fitted = best(groups)
    left_out = {}
    for group in groups:
        value = best([g for g in groups if g != group])
        left_out[group] = value, values[value][group]
    return Choice(fitted, float(np.mean(list(values[fitted].values()))), left_out)


def measure(args: argparse.Namespace) -> Scores:
    """Score every image with every value; written to the JSON file image by image.

    Returns the scores that were asked for, of which the file may have more.
    """
    about = {name: getattr(args, name) for name in ("constant", "model", "longest")}
    images, chosen = _earlier(args.json, about), {}
    ours = Ours(aeseg.load_model(args.model))
    for name in args.sets:
        kind = quality.SETS[name].kind
        score = next(iter(quality.SCORES[kind].values()))
        of_set, chosen[name] = images.setdefault(name, {}), {}
        for sample in quality.load(args.data, name, args.limit, args.longest):
            chosen[name][sample.stem] = by_value = of_set.setdefault(sample.stem, {})
            hierarchy = None
            for value in args.values:
                if value in by_value:
                    continue
                with patch(args.constant, _read(value)):
                    if hierarchy is None or not args.encode_once:
                        hierarchy = ours.hierarchy(sample.image)
                    cuts = segmented(computed_again(hierarchy), kind, sample.n)
                by_value[value] = [score.measure(sample, labels) for labels in cuts]
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps({"about": about, "images": images}, indent=1) + "\n")
        print(f"{name}: {len(chosen[name])} images", file=sys.stderr)
    return chosen


def _read(value: str) -> object:
    """The value that a text stands for: a number, a tuple, ... or the text itself."""
    try:
        return literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _earlier(path: Path, about: dict) -> Scores:
    """The scores of an earlier run of the same constant."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    if found["about"] != about:
        sys.exit(f"{path} is of {found['about']}, not of {about}. Give another file with --json.")
    return found["images"]


def of_groups(
    images: Scores, values: Sequence[str], group_of: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Score of each value on each group: the mean over its sets, at the best cut of each set."""

    def of_set(name: str, value: str) -> float:
        return scores.sweep([by_value[value] for by_value in images[name].values()]).ods

    def of_group(group: str, value: str) -> float:
        return float(np.mean([of_set(s, value) for s, g in group_of.items() if g == group]))

    groups = list(dict.fromkeys(group_of.values()))
    return {value: {group: of_group(group, value) for group in groups} for value in values}


def table(values: Mapping[str, Mapping[str, float]], choice: Choice) -> str:
    """A row for each group, a column for each value, and what is chosen without the group."""
    lines = [
        quality.row("left out", [*values, "chosen without", "its score"]),
        quality.row("---", ["---:"] * (len(values) + 2)),
    ]
    for group, (value, score) in choice.left_out.items():
        cells = [f"{of[group]:.3f}" for of in values.values()]
        lines.append(quality.row(group, [*cells, value, f"{score:.3f}"]))
    means = [f"{np.mean(list(of.values())):.3f}" for of in values.values()]
    lines.append(quality.row("mean", [*means, "", f"{choice.left_out_mean:.3f}"]))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = quality.parser(__doc__, "leave_out.json", longest=640)
    add = parser.add_argument
    add("constant", help="its dotted name in the module that uses it")
    add("values", nargs="+", help="values to choose from, the first of equally good ones is taken")
    add("--model", default="base", help="base, or a model file")
    add("--by", choices=["subject", "set"], default="subject", help="what is left out")
    add(
        "--encode-once",
        action="store_true",
        help="encode each image once: for constants that patches, features and the image in which "
        "objects are found do not depend on",
    )
    args = quality.parse(parser, argv)
    group_of = {s: s if args.by == "set" else quality.SETS[s].subject for s in args.sets}
    if len(set(group_of.values())) < 2:
        parser.error(f"Nothing is left without {args.sets[0]}. Give sets of two subjects or more.")
    values = of_groups(measure(args), args.values, group_of)
    choice = choose(values)
    print(table(values, choice))
    print(
        f"\n{args.constant} = {choice.fitted}: mean {choice.fitted_mean:.3f}; "
        f"left out {choice.left_out_mean:.3f}"
    )


if __name__ == "__main__":
    main()
