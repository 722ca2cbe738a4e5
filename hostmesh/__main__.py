"""``python -m hostmesh``."""

import sys

from hostmesh.cli import main

if __name__ == "__main__":
    sys.exit(main())
