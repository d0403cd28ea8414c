# %% [markdown]
# # A texture, cell by cell
#
# Open this file in Jupyter (with jupytext), VS Code or Spyder and run the cells, or run it as a
# script. Pictures are shown in a notebook, and always written to the folder OUTPUT.
# The environment variables STEPS and OUTPUT set the training steps and the folder.

# %%
import os
from pathlib import Path

import numpy as np
from IPython import get_ipython

import napari_aeseg as aeseg
from napari_aeseg.io.images import overlay, write_picture
from napari_aeseg.samples import SAMPLES

STEPS = int(os.environ.get("STEPS", "200"))
OUTPUT = Path(os.environ.get("OUTPUT", "out/notebook"))
OUTPUT.mkdir(parents=True, exist_ok=True)


def show(picture: np.ndarray, name: str) -> None:
    """Write an RGB picture, and show it when this is a notebook."""
    path = OUTPUT / f"{name}.png"
    write_picture(picture, path)
    if get_ipython() is not None:
        from IPython.display import Image, display

        display(Image(filename=str(path)))


# %% [markdown]
# ## The image
# Brick, grass and gravel with the same mean brightness: only their texture differs.

# %%
image = SAMPLES["textures"]()
print(image.shape, image.dtype)
show(overlay(image, np.ones(image.shape, int), "YX"), "image")

# %% [markdown]
# ## Before any training
# The base model is bundled with the package.

# %%
tree = aeseg.build_hierarchy(image, "base")
show(overlay(image, tree.classes(n_classes=3), "YX"), "base_classes")

# %% [markdown]
# ## A model for this image
# The loss should fall; warnings are in the notes.

# %%
model = aeseg.train(image, aeseg.TrainingParams(steps=STEPS))
print("loss", model.losses[0], "->", model.losses[-1], *model.record.notes)

# %%
tree = aeseg.build_hierarchy(image, model)
show(tree.feature_colors(), "features")

# %% [markdown]
# ## Tune
# `balance` runs from 0 (brightness and colour) to 1 (texture). `scale` is the smoothing scale: the
# number of patches that are averaged. Neither needs a new encoding.

# %%
print("scale chosen from the image:", tree.descriptor.scale)
for balance, scale in ((0.5, "auto"), (1, "auto"), (0.5, 5)):
    classes = tree.reweighted(balance=balance, scale=scale).classes(n_classes=3)
    show(overlay(image, classes, "YX"), f"classes_balance_{balance}_scale_{scale}")

# %% [markdown]
# ## Measure

# %%
regions = tree.regions(n_regions=7)
table = tree.table(regions, texture=model.reconstruction_error(image))
table.to_csv(OUTPUT / "regions.csv", index=False)
table
