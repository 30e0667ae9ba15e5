"""Measurements beside `pairscore bench`: ablations, scaling, ways to int8, pipelines, the host, GPUs."""
