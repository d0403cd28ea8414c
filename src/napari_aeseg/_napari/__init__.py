"""The only code that knows napari, Qt and magicgui: a thin layer over the pipeline."""
