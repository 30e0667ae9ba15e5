"""Scores that are probabilities: fitted, kept in the bundle, judged on held-out folds."""
