"""Charts, page components, and the report in one file.

    write_html([Path("runs/a"), Path("runs/b")], Path("report.html"))

Nothing heavy is imported before a report is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["write_html"]


def write_html(run_dirs: Sequence[Path], out: Path) -> Path:
    """Write the report of some run folders into the file `out`: see `bench.reports.page`."""
    from . import page

    return page.write_html(run_dirs, out)
