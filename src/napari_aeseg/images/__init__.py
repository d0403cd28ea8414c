"""Arrays in: axes, intensities, tiles. numpy and dask only."""
