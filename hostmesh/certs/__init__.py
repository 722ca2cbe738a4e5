"""A certificate authority in a directory: ``hostmesh certs`` (docs/tls.md). Nothing of the daemon imports it."""
