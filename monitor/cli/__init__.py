"""The command: one file per noun; `main` is the edge where errors become one line and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from monitor.cli.root import app

    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.stderr.write("driftd: interrupted\n")
        raise SystemExit(130) from None
