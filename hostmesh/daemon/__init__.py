"""The composition root: configuration becomes objects here, signals arrive here, and nothing else is decided here."""
