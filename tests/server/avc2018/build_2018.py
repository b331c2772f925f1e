"""Make the environment of requirements.txt and shims_2018.py, once; print its folder.

python build_2018.py: a virtual environment in the user's cache folder, named by the hash of what
goes into it. Some twenty seconds the first time. Standard library only; pip is this interpreter's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
SHIMS = HERE / "shims_2018.py"


def main() -> Path:
    """The folder; made where it is not there yet, as a whole or not at all."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiltyard-2018"
    parts = [REQUIREMENTS.read_bytes(), SHIMS.read_bytes(), Path(__file__).read_bytes()]
    parts.append(f"{sys.version} {sys.base_prefix}".encode())
    target = cache / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=cache, prefix="."))
    try:
        venv.create(partial, with_pip=False, symlinks=True)
        python = partial / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
        options = ["--quiet", "--no-deps"]
        subprocess.run(
            [*pip, "install", *options, "--requirement", str(REQUIREMENTS)],
            check=True,
            stdout=sys.stderr,
        )
        packages = site_packages(partial)
        shutil.copy(SHIMS, packages)
        (packages / "shims_2018.pth").write_text("import shims_2018\n")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():  # unless somebody else was faster
            raise
    return target


def site_packages(environment: Path) -> Path:
    """Where its packages are."""
    return next((environment / "lib").glob("python3*")) / "site-packages"


if __name__ == "__main__":
    print(main())
