"""Hide the packages of the `worker` extra from a process with this folder on PYTHONPATH.

The tests' API and dashboard run like this, so that whatever they do is proved to need no torch.
"""

import sys
from importlib.machinery import ModuleSpec

WORKER_EXTRA = {"torch", "transformers", "datasets", "safetensors", "huggingface_hub"}


class Absent:
    """Says of every package of the extra that it is not installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] in WORKER_EXTRA:
            raise ModuleNotFoundError(
                f"No module named {name!r} (this process is one without the worker extra)",
                name=name,
            )
        return None


sys.meta_path.insert(0, Absent)
