"""Leaves its session, so that ending its group does not end it, and prints how to find it."""

import os
import subprocess
import sys
import uuid

name = f"tiltyard-daemon-{uuid.uuid4().hex}"
subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(3600)", name],
    start_new_session=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
print(name, flush=True)
os._exit(0)
