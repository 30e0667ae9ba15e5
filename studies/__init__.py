"""Measurements of this repository beside `pairscore bench`, and the pages that tell of them. No wheel carries them."""
