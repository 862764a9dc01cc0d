"""Text generation by another service: what is asked of it, and what it says."""
