"""From results to incidents, messages and rollback decisions: pure functions, no clock, no I/O."""
