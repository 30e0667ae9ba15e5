"""Score pairs with a bundle: tokenize, batch, run an engine, write. Nothing here imports torch or transformers."""
