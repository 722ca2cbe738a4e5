"""Names: paths, dtabs, name trees, and how a path is bound to endpoints. Pure."""
