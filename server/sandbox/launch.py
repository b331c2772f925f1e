"""Set the limits that a process can set on itself, then become the program. Standard library only.

launch.py '{"RLIMIT_CORE": 0, ...}' COMMAND...

A script for a fresh interpreter: setting limits between fork and exec in a server with threads can
deadlock.
"""

from __future__ import annotations

import json
import os
import resource
import sys


def main(limits: dict[str, int], command: list[str]) -> None:
    for name, value in limits.items():
        try:
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (most, most))
        except (AttributeError, ValueError, OSError) as error:
            print(f"launch: {name} can't be set here: {error}", file=sys.stderr)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"launch: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
