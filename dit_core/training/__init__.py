"""Training: what moves only the transformer (and its text encoder), and what makes the autoencoder before it."""
