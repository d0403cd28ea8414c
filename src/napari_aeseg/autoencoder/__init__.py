"""The network, its training, its file, its features: the only torch code."""
