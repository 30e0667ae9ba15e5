"""Fine-tune and evaluate the claim-evidence cross-encoder: the recipe of the model card."""
