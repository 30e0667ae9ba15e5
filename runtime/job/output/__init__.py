"""The output of a job: parts, their folder or the one file they become, and the lock on it."""
