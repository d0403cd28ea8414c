"""Makes a golden file with the package that is on the path, and says what it gives.

Run once for each format, with the code that wrote it first::

    PYTHONPATH=OLD_CHECKOUT/src python tests/golden/make_golden.py KIND FILE

KIND is "model" or "volumes". What the file gives is written beside it, to
FILE.json, by the same code.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

import napari_aeseg as aeseg

TINY = {"levels": 2, "width": 4, "convolutions": 1, "crop_size": 16, "batch_size": 2, "steps": 4}


def image(*shape):
    """Stripes and noise in steps of 1/16, the same on every machine."""
    rng = np.random.default_rng(7)
    values = rng.integers(0, 9, shape) + 6.0 * (np.arange(shape[-1]) // 8 % 2)
    return values / 16


def digest(array):
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def of_model(model):
    """What a model file must give bit for bit, and what only nearly: convolutions round anyhow."""
    shape = (8, 16, 16) if getattr(model.architecture, "dimensions", 2) == 3 else (24, 32)
    features = model.features(image(*shape), device="cpu")
    found = {
        "fingerprint": model.fingerprint,
        "losses": list(model.losses),
        "intensity": None if model.intensity is None else [*model.intensity.low],
        "steps": model.record.steps,
        "features": features[:, ::8, ::8].ravel()[:40].tolist(),
    }
    if getattr(model, "prototypes", None) is not None:
        kinds = model.prototypes
        found["prototypes"] = [digest(kinds.centres), digest(kinds.whitening), list(kinds.names)]
    return found


def make(kind, path):
    params = aeseg.TrainingParams(**TINY)
    if kind == "model":
        model = aeseg.train(image(48, 40), params.updated(normalisation="training"), device="cpu")
        if hasattr(aeseg, "Prototypes"):
            eye = np.eye(4, 3)
            model.prototypes = aeseg.Prototypes(eye[:2, :3], eye[:3], 5.0, ("gland", "stroma"))
        model.save(path)
        return of_model(model)
    params = params.updated(width=2, dimensions="3D")
    model = aeseg.train(image(16, 20, 20), params, axes="ZYX", device="cpu")
    model.save(path)
    return of_model(model)


if __name__ == "__main__":
    kind, target = sys.argv[1:]
    found = make(kind, target)
    Path(f"{target}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
