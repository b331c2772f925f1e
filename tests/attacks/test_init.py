from __future__ import annotations

import pkgutil
import subprocess
import sys

import attacks


def test_no_public_name_is_shadowed_by_a_file_of_that_name() -> None:
    files = {module.name for module in pkgutil.iter_modules(attacks.__path__)}
    assert set(attacks.__all__) & files <= {"foolbox"}


def test_every_public_name_is_there() -> None:
    for name in attacks.__all__:
        assert getattr(attacks, name) is not None


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import attacks, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
