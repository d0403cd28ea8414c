"""Images larger than memory: worked on block by block, on one machine or a cluster."""
