"""The HTTP API on the admin port: what runs, why a name binds as it does, and the few things one may change."""
