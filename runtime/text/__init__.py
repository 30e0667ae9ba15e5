"""Texts to token ids, once each."""
