"""Prints its environment's names and its limits, and ends."""

import os
import resource

limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
          for name in ("CORE", "FSIZE", "NOFILE")}  # fmt: skip
print(" ".join(f"{name}={value}" for name, value in limits.items()))
print("\n".join(os.environ))
