"""Damaged image files are read or refused in words, by the functions and by the commands."""

import logging

import pytest
from hypothesis import given, settings

import image_files
import random_images


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "any.aeseg.safetensors"
    random_images.any_model().save(path)
    return path


@given(case=image_files.cases())
@settings(max_examples=30)
def test_damaged_files_are_read_or_refused_in_words(model_path, case):
    logging.disable(logging.CRITICAL)  # tifffile tells of all that it finds
    try:
        image_files.try_file(case, model_path)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", [*image_files.TIFFS, *image_files.PICTURES, *image_files.ZARRS])
def test_the_files_that_are_damaged_are_good_ones(tmp_path, kind):
    if kind in image_files.ZARRS:
        path = tmp_path / "a.zarr"
        image_files.write_zarr(kind, path)
    else:
        path = tmp_path / ("a.tif" if kind in image_files.TIFFS else f"a.{kind.split('.')[-1]}")
        path.write_bytes(image_files.whole(kind))
    assert image_files.is_read(image_files.read_file, path)
    assert image_files.is_read(image_files.opened_lazily, path)
