"""The kernel: the words of driftd as values. Imports nothing else of the project."""
