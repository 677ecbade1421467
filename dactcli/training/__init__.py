"""Training: stages on the transformers Trainer, run folders, resume."""
