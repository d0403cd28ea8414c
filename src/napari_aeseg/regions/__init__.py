"""Patches, region graph, merge tree, cuts: arrays in, arrays out, never torch."""
