"""The path of a request: caller's session, exchange, path / bound / client / endpoint stacks, endpoint's session."""
