"""What decides drift: each column against its own normal windows, and a ledger that keeps the budget."""
