"""The model bundle: its manifest, its files, and what was promised for them."""
