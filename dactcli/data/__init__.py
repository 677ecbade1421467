"""Data: from a recipe to tokenised, padded batches, everything checked on the way."""
