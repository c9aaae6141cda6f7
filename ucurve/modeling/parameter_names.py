"""The parameters of a loaded model by canonical names, whatever this release of transformers says.

parameters = parameters_of(model)         # {NamedTensor: parameter}
expect_stored_names(model, layout)        # an error where the library has a new name
"""

from __future__ import annotations

from torch.nn import Parameter
from transformers import PreTrainedModel

from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.registry.tensors.tensor_names import NamedTensor, unexplained


class UnknownNameError(RuntimeError):
    """A parameter that no table brings together with a tensor of the files; shown to users."""


def parameters_of(model: PreTrainedModel) -> dict[NamedTensor, Parameter]:
    """Return the parameters by canonical name: no buffers, tied tensors once."""
    architecture = str(model.config.model_type)
    return {
        NamedTensor.of(name, architecture, parameter.shape): parameter
        for name, parameter in model.named_parameters()
    }


def expect_stored_names(model: PreTrainedModel, layout: Layout | None) -> None:
    """Raise UnknownNameError where a parameter is none of the tensors in the checkpoint's files.

    Noise is drawn by name. A release of transformers that renames a tensor would change it, under
    the same identity, so it is refused until the table of names knows both.
    """
    unknown = layout and layout.unexplained(name for name, _ in model.named_parameters())
    if unknown:
        raise UnknownNameError(unexplained(unknown))
