"""The two published segmentation decoders."""
