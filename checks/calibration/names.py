"""The virtual columns of the chart."""

from __future__ import annotations

ROWS, CORRELATION = "(rows)", "(correlation)"
"""How many rows a window has, and how its numeric columns hang together."""
