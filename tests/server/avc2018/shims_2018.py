"""What has changed under the package of 2018 since then, put back before it is imported.

Loaded by a .pth file of its environment, so that no file of the package is touched.

- `collections.Iterable` and its like moved to `collections.abc` (Python 3.10); foolbox 1.8 imports
  the old names.
- `yaml.load` wants a loader (PyYAML 6); the package gives none.
- GitPython, which foolbox imports for its model zoo, complains where git is not installed.

NumPy is 1.23, the last one with the old names of types, and needs nothing.
"""

import collections
import collections.abc
import functools
import importlib.abc
import importlib.util
import os
import sys

for name in ("Iterable", "Mapping", "MutableMapping", "Sequence"):
    setattr(collections, name, getattr(collections.abc, name))

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


class _Yaml(importlib.abc.MetaPathFinder):
    """Gives `yaml.load` a loader as soon as somebody imports it, and not before: it is slow."""

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        if fullname != "yaml":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("yaml")
        assert spec is not None
        assert spec.loader is not None
        plain = spec.loader.exec_module

        def exec_module(module):  # type: ignore[no-untyped-def]
            plain(module)
            module.load = functools.partial(module.load, Loader=module.SafeLoader)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Yaml())
