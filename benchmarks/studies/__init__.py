"""Measurements beside `pairscore bench`, and the pages that tell of them. No wheel carries this folder."""
