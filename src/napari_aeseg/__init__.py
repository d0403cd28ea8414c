"""Label-free segmentation with a convolutional autoencoder and a merge tree."""
