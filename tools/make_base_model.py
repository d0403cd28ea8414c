"""Make the base model that ships with the package.

    python tools/make_base_model.py --data FOLDER --pictures FOLDER

The first folder holds the labelled sets of the benchmarks, `<set>/images/*.tif` or `.png`; only
those named in `SETS` are read, and only their images. The second holds the pictures that
`base_model_pictures.csv`, beside this file, lists with their addresses; larger ones are reduced to
1024 pixels or cut. All other images come with scikit-image. Every licence lets weights trained on
the pixels be given away; `LICENCES`, the list and the model's training record say which.

First, each image of the sets and of scikit-image is cut, zoomed and changed in intensity and colour
into several views, and an autoencoder of three channels and otherwise default architecture is
trained on all views as a user would train it on files. Then it goes on with a second task on all
pictures (see `second_task.py`). The same seed on the same machine gives the same model.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from second_task import TEACHER, Picture, teach
from skimage import data
from skimage.io import imread
from skimage.transform import resize

import napari_aeseg as aeseg
from napari_aeseg.autoencoder.model import Model
from napari_aeseg.autoencoder.model_file import BASE_FILE
from napari_aeseg.images.intensity import IntensityRange
from napari_aeseg.progress import Progress, TrainingProgress

#: Images that come with scikit-image, with the licence that its documentation states for each.
LICENCES = {
    "astronaut": "public domain (NASA)",
    "brick": "CC0",
    "camera": "CC0",
    "cell": "CC0",
    "chelsea": "CC0",
    "clock": "public domain",
    "coffee": "CC0",
    "grass": "CC0",
    "gravel": "CC0",
    "hubble_deep_field": "public domain (NASA)",
    "microaneurysms": "CC0",
    "retina": "CC0",
    "rocket": "public domain (SpaceX)",
    "text": "public domain",
}
#: Folders of labelled images, with their licence.
SETS = {"dsb2018_fluo": "CC0 (BBBC038)", "dsb2018_he_white": "CC0 (BBBC038)"}
#: Views of each image: kinds of which there are many images have fewer of each.
VIEWS = {"skimage.data": 24, "dsb2018_fluo": 5, "dsb2018_he_white": 10}
#: Of the second task: an image of a kind of which there are many is drawn less often.
DRAWN = {"dsb2018_fluo": 0.4, "dsb2018_he_white": 0.7, "bbbc038": 0.4}
#: Parts of the sample image and of a benchmark: the second task does without them.
NOT_IN_SECOND_TASK = ("brick", "grass", "gravel")
PICTURES = Path(__file__).with_name("base_model_pictures.csv")
SIDE = 256  # pixels along the longer side of a view, at most


@dataclass(frozen=True)
class Source:
    """An image to train on."""

    group: str
    name: str
    licence: str
    #: (Y, X, 1 or 3), scaled to 0 .. 1.
    pixels: np.ndarray

    @property
    def grey(self) -> bool:
        """True for one channel."""
        return self.pixels.shape[-1] == 1


def sources(folder: Path) -> list[Source]:
    """Read all images, those of scikit-image first."""
    images = [
        Source("skimage.data", name, licence, scaled(getattr(data, name)()))
        for name, licence in LICENCES.items()
    ]
    for group, licence in SETS.items():
        files = sorted((folder / group / "images").glob("*"))
        if not files:
            raise SystemExit(f"There are no images in {folder / group / 'images'}.")
        images += [Source(group, file.stem, licence, scaled(imread(file))) for file in files]
    return images


def listed_pictures(folder: Path) -> list[Source]:
    """Read the pictures of the list."""
    with PICTURES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [row["file"] for row in rows if not (folder / row["file"]).is_file()]
    if missing:
        raise SystemExit(
            f"{len(missing)} of {len(rows)} pictures are not in {folder}, such as {missing[0]}: "
            f"fetch them from the addresses in {PICTURES}."
        )
    return [
        Source(
            row["file"].split("/")[0],
            Path(row["file"]).stem,
            row["licence"],
            scaled(imread(folder / row["file"])),
        )
        for row in rows
    ]


def scaled(image: np.ndarray) -> np.ndarray:
    """Return (Y, X, C) pixels from 0 to 1, scaled as the package scales them but clipped."""
    pixels = np.moveaxis(image[..., np.newaxis] if image.ndim == 2 else image[..., :3], -1, 0)
    out = IntensityRange.of(pixels).apply(pixels.astype(np.float32))
    return np.moveaxis(np.clip(out, 0, 1), 0, -1)


def cut(pixels: np.ndarray, rng: np.random.Generator, zoom: float) -> np.ndarray:
    """Return a random part, zoomed, with neither side longer than `SIDE`."""
    size = [min(n, round(SIDE / zoom)) for n in pixels.shape[:2]]
    y, x = (rng.integers(n - m + 1) for n, m in zip(pixels.shape[:2], size, strict=True))
    part = pixels[y : y + size[0], x : x + size[1]]
    if zoom == 1:
        return part
    shape = [max(round(m * zoom), 1) for m in size]
    return resize(part, shape, order=1, anti_aliasing=zoom < 1).astype(np.float32)


def plain_view(source: Source, rng: np.random.Generator) -> np.ndarray:
    """Return a part as it is; every other one of a colour image is made grey."""
    part = cut(source.pixels, rng, 1)
    if not source.grey and rng.random() < 0.5:
        part = part.mean(axis=-1, keepdims=True)
    return np.broadcast_to(part, (*part.shape[:2], 3))


def varied_view(source: Source, rng: np.random.Generator) -> np.ndarray:
    """Return a part zoomed, mixed to grey or other colours, with another gamma, maybe inverted."""
    part = cut(source.pixels, rng, float(np.exp(rng.uniform(np.log(0.5), np.log(2)))))
    channels = part.shape[-1]
    if source.grey or rng.random() < 0.5:
        part = part @ rng.dirichlet(np.ones(channels))[:, np.newaxis]
    elif rng.random() < 0.5:
        part = part[..., rng.permutation(channels)]
    else:
        part = part @ rng.dirichlet(np.ones(channels), 3).T
    # One curve for all channels: bent separately, grey would become coloured.
    part = np.clip(part, 0, 1) ** np.exp(rng.uniform(-0.7, 0.7))
    if rng.random() < 0.3:
        part = 1 - part
    return np.broadcast_to(part.astype(np.float32), (*part.shape[:2], 3))


def stacked(views: list[np.ndarray], number: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return images whose three channels show three different structures, as stains do."""
    out = []
    for _ in range(number):
        three = [views[i][..., 0] for i in rng.choice(len(views), 3, replace=False)]
        rows, columns = (min(v.shape[axis] for v in three) for axis in (0, 1))
        out.append(np.stack([v[:rows, :columns] for v in three], axis=-1))
    return out


AUGMENTATIONS = {"plain": plain_view, "varied": varied_view}


def training_views(images: list[Source], augmentation: str, seed: int) -> list[np.ndarray]:
    """Return all views of all sources, (Y, X, 3)."""
    rng = np.random.default_rng(seed)
    view = AUGMENTATIONS[augmentation]
    views = [view(source, rng) for source in images for _ in range(VIEWS[source.group])]
    if augmentation == "varied":
        views += stacked(views, len(views) // 10, rng)
    return views


def report(event: Progress) -> None:
    """Print the mean loss since the last event, every hundred steps or so."""
    if isinstance(event, TrainingProgress) and event.done % 100 < len(event.losses):
        loss = sum(event.losses) / len(event.losses)
        print(f"step {event.done} of {event.total}, loss {loss:.5f}", flush=True)


def first_task(images: list[Source], args: argparse.Namespace) -> Model:
    """Train an autoencoder on views of the images."""
    views = training_views(images, args.augmentation, args.seed)
    print(f"{len(images)} images, {len(views)} views of them")
    params = aeseg.TrainingParams(steps=args.steps, seed=args.seed)
    trained = aeseg.train(views, params, axes="YXC", device="cpu", progress=report)
    note = (
        f"{len(views)} views of the first {len(images)} images, augmentation "
        f"{args.augmentation!r}, made by tools/make_base_model.py."
    )
    # Half the bytes, and nobody plots more digits.
    losses = tuple(round(loss, 6) for loss in trained.losses)
    record = replace(trained.record, losses=losses, notes=(*trained.record.notes, note))
    return Model(trained.network, record=record)


def main() -> None:
    """Make the model and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--output", type=Path, default=BASE_FILE, help="model file to write")
    parser.add_argument("--steps", type=int, default=3000, help="of the first task")
    parser.add_argument("--second-steps", type=int, default=2500, help="of the second task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--augmentation", choices=AUGMENTATIONS, default="varied")
    parser.add_argument("--first", type=Path, help="take the model of the first task from a file")
    args = parser.parse_args()

    first, pictures = sources(args.data), listed_pictures(args.pictures)
    model = aeseg.load_model(args.first) if args.first else first_task(first, args)
    images = [*first, *pictures]
    taught = [s for s in images if s.name not in NOT_IN_SECOND_TASK]
    torch.set_num_threads(1)
    teach(
        model.network,
        [Picture(s.pixels, DRAWN.get(s.group, 1.0)) for s in taught],
        steps=args.second_steps,
        seed=args.seed,
    )
    note = (
        f"{args.second_steps} steps of a second task on {len(taught)} images; teacher: {TEACHER}."
    )
    record = replace(
        model.record,
        images=tuple(
            {
                "name": f"{source.group}/{source.name} ({source.licence})",
                "shape": list(source.pixels.shape),
                "axes": "YXC",
            }
            for source in images
        ),
        notes=(*model.record.notes, note),
    )
    Model(model.network, record=record, any_channels=True).save(args.output)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
