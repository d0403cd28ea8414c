"""Objects: things on a background, found among nested parts of several maps."""
