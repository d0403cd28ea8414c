from napari_aeseg._napari.tuning import MODES, Cut, most_patches
from napari_aeseg.regions.cuts import cut


def test_most_patches(hierarchy):
    assert most_patches([]) == 1
    assert most_patches([hierarchy]) == hierarchy.n_patches


def test_the_dock_offers_modes_of_the_core():
    assert MODES == cut.MODES
    assert Cut is cut.Cut
