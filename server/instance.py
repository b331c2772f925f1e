"""One server for each data folder: a lock that the kernel releases when the process dies.

Holding it proves that the process which held it before is gone, so its leases may be taken back at
once, without waiting for them to run out.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from bench.errors import UserError


class Instance:
    """The lock on a data folder, and the name that this folder's servers go by.

    Raises UserError when another live process holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "server.lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise UserError(
                f"another server (process {holder}) uses {folder}; stop it, or give this one "
                "another folder with --data-dir"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        self.id = name_of(folder)

    def owner(self) -> str:
        """What the leases of this process are marked with."""
        return f"{self.id}:{os.getpid()}"

    def close(self) -> None:
        """Let the folder go."""
        self._file.close()


def name_of(folder: Path) -> str:
    """The data folder's name, made up once; sandboxes and leases are marked with it."""
    file = folder / "instance"
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.write_text(secrets.token_hex(4))
        fresh.replace(file)
    return file.read_text().strip()
