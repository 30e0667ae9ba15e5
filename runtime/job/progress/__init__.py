"""The progress of a job: counted, shown to people, and written down for machines."""
