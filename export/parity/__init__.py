"""How far a variant is from PyTorch: pairs, measures, and the gate that judges by them."""
