"""Numbers and finished exchanges: the metrics tree, its renderers, the record. Pure."""
