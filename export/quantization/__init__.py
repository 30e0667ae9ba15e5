"""Graphs in int8, fitted to the user's own pairs."""
