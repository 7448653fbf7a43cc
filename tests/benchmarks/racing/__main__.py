"""See `table`."""

from __future__ import annotations

from .table import main

if __name__ == "__main__":
    main()
