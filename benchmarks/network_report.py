"""What `networks.py` has measured, as a table and as a picture."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from network_variants import DEFAULT, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Box = tuple[float, float, float, float]

# -- table ---------------------------------------------------------------------------------------


def summary(times: list[dict[str, Any]], scored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each variant that has been timed and scored on all sets.

    ``gain`` is the mean difference to the default over the same images and seeds, ``chance`` the
    standard error of that mean over images, the seeds of an image being averaged first. ``mean``
    is the mean of the sets.
    """
    sets = list(dict.fromkeys(q["set"] for q in scored))
    by_name = {t["variant"]: t for t in times}
    rows = []
    for timing in (by_name[name] for name in VARIANTS if name in by_name):
        mine = [q for q in scored if q["variant"] == timing["variant"]]
        if not mine or {q["set"] for q in mine} < set(sets):
            continue
        of_sets = {
            name: _mean(v for q in mine if q["set"] == name for v in q["scores"].values())
            for name in sets
        }
        gain, chance = _compared(mine, [q for q in scored if q["variant"] == DEFAULT.name])
        rows.append(
            {
                **timing,
                "seeds": len({q["seed"] for q in mine}),
                "sets": of_sets,
                "mean": _mean(of_sets.values()),
                "unexplained": _mean(q["unexplained"] for q in mine),
                "gain": gain,
                "chance": chance,
            }
        )
    return rows


def _compared(mine: list[dict[str, Any]], others: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the mean difference over images and its standard error."""
    reference = {(q["seed"], q["set"]): q["scores"] for q in others}
    differences: dict[tuple[str, str], list[float]] = {}
    for q in mine:
        for stem, score in reference.get((q["seed"], q["set"]), {}).items():
            here = differences.setdefault((q["set"], stem), [])
            here.append(q["scores"][stem] - score)
    means = [_mean(values) for values in differences.values()]
    if len(means) < 2:
        return float("nan"), float("nan")
    return _mean(means), statistics.stdev(means) / len(means) ** 0.5


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    if not rows:
        return "Nothing is complete yet."
    head = [
        *("variant", "parameters", "mult. / pixel", "encoding", "faster", "step", "faster"),
        *("unexplained", *rows[0]["sets"], "mean", "to the default", "seeds"),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in rows:
        cells = [
            row["variant"],
            f"{row['parameters']:,}",
            f"{row['multiplications']:,.0f}",
            f"{row['encode_seconds']:.2f} s",
            f"{row['encode_faster']:.2f}",
            f"{1e3 * row['step_seconds']:.0f} ms",
            f"{row['step_faster']:.2f}",
            f"{row['unexplained']:.3f}",
            *(f"{value:.3f}" for value in row["sets"].values()),
            f"{row['mean']:.3f}",
            f"{row['gain']:+.3f} ± {row['chance']:.3f}",
            str(row["seeds"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# -- picture -------------------------------------------------------------------------------------

SIZE, LEFT, RIGHT, TOP, BOTTOM = (900, 580), 60, 20, 70, 60
WORST = -0.15  # what is further down is drawn at the border, with its value
FINER = 2  # drawn so many times as large, then made smaller
COLORS = {
    "default": (20, 20, 20),
    "depth, width, convolutions": (0, 105, 180),
    "kind of convolution, pooling, resolution": (213, 94, 0),
    "non-linearity": (0, 135, 90),
}
GREY, LIGHT = (90, 90, 90), (225, 225, 225)


def kind_of(name: str) -> str:
    """Return which of `COLORS` a variant has."""
    v, usual = VARIANTS[name], DEFAULT
    if v == usual:
        return "default"
    if v.activation != usual.activation:
        return "non-linearity"
    same = (v.down, v.separable, v.stem) == (usual.down, usual.separable, usual.stem)
    return list(COLORS)[1 if same else 2]


class Curve:
    """Gain in quality against encoding time: a point for each row of a summary."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.image = Image.new("RGB", tuple(FINER * n for n in SIZE), "white")
        self.draw = ImageDraw.Draw(self.image)
        #: What names should keep clear of.
        self.taken: list[Box] = []
        seconds = [row["encode_seconds"] for row in rows]
        self.x = math.log(min(seconds) / 1.3), math.log(max(seconds) * 1.25)
        ends = [row["gain"] + s * row["chance"] for row in rows for s in (-1, 1)]
        self.y = max(min(ends), WORST) - 0.01, max(ends) + 0.01

    def at(self, seconds: float, value: float) -> tuple[float, float]:
        """Return where a point lies, or where it leaves the picture."""
        value = max(value, self.y[0])
        x = (math.log(seconds) - self.x[0]) / (self.x[1] - self.x[0])
        y = (value - self.y[0]) / (self.y[1] - self.y[0])
        width, height = SIZE
        return (
            FINER * (LEFT + x * (width - LEFT - RIGHT)),
            FINER * (height - BOTTOM - y * (height - TOP - BOTTOM)),
        )

    def text(self, at: tuple[float, float], what: str, anchor: str, color=GREY, size=14) -> Box:
        """Write, and return the box of what was written."""
        font = ImageFont.load_default(FINER * size)
        # A white rim, so that lines do not cross letters.
        rim = {"stroke_width": 2 * FINER, "stroke_fill": "white"}
        self.draw.text(at, what, color, font, anchor, **rim)
        return self.draw.textbbox(at, what, font, anchor)

    def axes(self) -> None:
        """Draw grid, ticks, the place of the default, and the legend."""
        (x0, y0), (x1, y1) = (self.at(math.exp(x), y) for x, y in zip(self.x, self.y, strict=True))
        for seconds in (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 8):
            if self.x[0] <= math.log(seconds) <= self.x[1]:
                x, _ = self.at(seconds, 0)
                self.draw.line([x, y0, x, y1], LIGHT, FINER)
                self.text((x, y0 + 8 * FINER), f"{seconds:g}", "ma")
        step = 0.02 if self.y[1] - self.y[0] < 0.2 else 0.05
        for i in range(math.ceil(self.y[0] / step), math.floor(self.y[1] / step) + 1):
            _, y = self.at(1, i * step)
            self.draw.line([x0, y, x1, y], LIGHT, FINER)
            self.text((x0 - 8 * FINER, y), f"{i * step:+.2f}" if i else "0", "rm")
        for row in self.rows:
            if row["variant"] == DEFAULT.name:
                x, y = self.at(row["encode_seconds"], row["gain"])
                self.draw.line([x0, y, x1, y], GREY, FINER)
                self.draw.line([x, y0, x, y1], GREY, FINER)
                self.taken += [(x0, y, x1, y), (x, y1, x, y0)]
        self.taken += [(x0, y0 + 10 * FINER, x1, y0 + 30 * FINER)] * 3
        side = self.rows[0]["side"]
        below = f"seconds to encode {side} x {side} RGB, one thread"
        self.text(((x0 + x1) / 2, y0 + 46 * FINER), below, "md")
        number = len(self.rows[0]["sets"])
        above = f"mean IoU or covering, {number} sets: difference to the default network"
        above += " on the same images and seeds, and one standard error"
        self.text((12 * FINER, 10 * FINER), above, "la")
        left = 12 * FINER
        for name, color in COLORS.items():
            left = self.text((left, 34 * FINER), name, "la", color)[2] + 18 * FINER

    def widths(self) -> None:
        """Join the variants that differ from the default in width only."""
        places = {
            v.width: self.at(row["encode_seconds"], row["gain"])
            for row in self.rows
            if replace(v := VARIANTS[row["variant"]], name="", width=0)
            == replace(DEFAULT, name="", width=0)
        }
        line = [places[width] for width in sorted(places)]
        self.draw.line(line, (170, 205, 230), 2 * FINER)

    def points(self) -> None:
        """Draw a point and its chance for each row, and names where there is room."""
        taken = self.taken
        # The default last, on top of those that are like it.
        rows = sorted(self.rows, key=lambda row: row["variant"] == DEFAULT.name)
        places = [(self.at(row["encode_seconds"], row["gain"]), row) for row in rows]
        r = 5 * FINER
        for (x, y), row in places:
            color = COLORS[kind_of(row["variant"])]
            ends = [self.at(1, row["gain"] + s * row["chance"])[1] for s in (-1, 1)]
            self.draw.line([x, ends[0], x, ends[1]], tuple((c + 255) // 2 for c in color), FINER)
            self.draw.ellipse([x - r, y - r, x + r, y + r], color)
            # Of more weight than the bar: a name may cross a line, but hide no point.
            taken += [(x - r, y - r, x + r, y + r)] * 3 + [(x - 2, ends[1], x + 2, ends[0])]
        font = ImageFont.load_default(FINER * 14)
        for (x, y), row in places:
            name, color = row["variant"].split(":")[0], COLORS[kind_of(row["variant"])]
            name += f" ({row['gain']:+.2f}, not to scale)" * (row["gain"] < self.y[0])
            at, anchor = min(
                _around(x, y),
                key=lambda place, n=name: sum(
                    _overlap(self.draw.textbbox(place[0], n, font, place[1]), box) for box in taken
                ),
            )
            taken += [self.text(at, name, anchor, color)] * 3

    def save(self, path: Path) -> None:
        """Write the picture at its final size."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.image.resize(SIZE, Image.Resampling.LANCZOS).save(path, optimize=True)


def _around(x: float, y: float) -> Iterator[tuple[tuple[float, float], str]]:
    """Yield places for a name beside a point, the best first, and how it is anchored there."""
    for far in (9, 20, 32, 46):
        d = far * FINER
        yield (x + 9 * FINER, y - (d - 9 * FINER)), "lm"
        yield (x + 9 * FINER, y + (d - 9 * FINER)), "lm"
        yield (x - 9 * FINER, y - (d - 9 * FINER)), "rm"
        yield (x - 9 * FINER, y + (d - 9 * FINER)), "rm"


def _overlap(a: Box, b: Box) -> bool:
    near = 2 * FINER
    return a[0] < b[2] + near and b[0] < a[2] + near and a[1] < b[3] + near and b[1] < a[3] + near


def picture_of(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw quality against encoding time; the lines cross at the default."""
    curve = Curve(rows)
    curve.axes()
    curve.widths()
    curve.points()
    curve.save(path)
