"""One interface, several engines: token ids of a batch to logits."""
