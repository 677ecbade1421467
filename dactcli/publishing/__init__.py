"""A run made fit to be given away: its model folder, the card written from its facts, and the way to the hub."""
