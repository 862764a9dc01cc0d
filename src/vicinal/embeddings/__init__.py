"""Text to vectors: model files, the encoder, and remote backends."""
