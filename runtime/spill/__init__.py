"""Tables that may be larger than memory, and so lie on disk: old scores by texts, and the best rows over all parts."""
