"""Makes `keras.saving.load_model` find the classes of kerasland after a bare `import kerasland`.

Keras looks classes up among those registered, and imports no module of others to find one. To
register them needs Keras, and so TensorFlow, which `import kerasland` alone does not start: so it
is done at the moment when Keras is imported, or at once where it already is.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

HOMES = ("layers", "losses", "metrics")


def register_with_keras() -> None:
    """Registers the classes now if Keras is imported, otherwise when it is."""
    if "keras" in sys.modules:
        _register()
    elif not any(isinstance(finder, _WhenKerasIsImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenKerasIsImported())


def _register() -> None:
    for home in HOMES:
        importlib.import_module(f"kerasland.{home}")


class _WhenKerasIsImported:
    """Finds nothing by itself; adds a step after the execution of the module `keras`."""

    seen = False

    def find_spec(self, name, path=None, target=None):
        if name != "keras" or self.seen:
            return None
        self.seen = True
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _register()

            spec.loader.exec_module = exec_module
        return spec
