"""Sending what was decided: the outbox worker, channels, and rollbacks."""
