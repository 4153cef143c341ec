"""What can be said of a window of a model's log: pure functions of profiles, no I/O."""
