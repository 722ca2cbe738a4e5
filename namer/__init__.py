"""Namers, one module per kind. Loaded through their entry points only: nothing in hostmesh imports them."""
