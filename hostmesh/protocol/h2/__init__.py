"""HTTP/2 (RFC 9113): an engine's interface, two engines, their budgets, and heads as the proxy reads them. Pure."""
