"""A PyTorch cross-encoder as weights and a formula: what the native engine and the unpadded graph are made of."""
