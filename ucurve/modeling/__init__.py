"""Everything on tensors; the only room that imports torch."""

import sys

# transformers imports torchao with its model classes, peft with LoRA; both need it only for
# quantised checkpoints, which are refused. For a module that is None, Python answers "not
# installed". `ucurve.modeling.library_formats` takes this back when a format is measured.
sys.modules.setdefault("torchao", None)  # type: ignore[arg-type]
