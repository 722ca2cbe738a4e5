"""hostmesh: one proxy daemon per host that carries all service-to-service traffic of that host."""

__version__ = "0.1.0"
