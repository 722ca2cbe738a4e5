"""The composition root: configuration becomes objects here, signals arrive here, and nothing else is decided here."""

import sys

# structlog imports rich where that is installed: 4 MB of an idle daemon, for colours that nobody sees.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # which is how an import is made to fail
    import structlog as structlog

    del sys.modules["rich"]
