"""Throughput and parity against peers; committed raw results; the report."""
