"""The input of a job: files found, checked by their footers, read in pieces."""
