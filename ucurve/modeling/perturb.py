"""Gaussian perturbation per tensor: theta' = theta + gamma * sigma * eps, eps ~ N(0, 1).

tensors = select(model, which="matrices")
noise = Noise(seed=0)    # the same numbers on every device and for every checkpoint
with perturbed(tensors, current_std(tensors), 0.1, noise):
    ...                  # measure
# here every weight has its original bits again
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from transformers import PreTrainedModel

from ucurve.modeling.parameter_names import parameters_of
from ucurve.registry.tensors import tensor_selection
from ucurve.registry.tensors.tensor_names import NamedTensor
from ucurve.registry.tensors.tensor_selection import GROUPS as GROUPS
from ucurve.registry.tensors.tensor_selection import Selection

STREAMS = "gaussian/1"  # of both versions: where they name a tensor alike, its noise is the same
CHUNK = 1 << 16  # numbers drawn at once: fits a core's cache
MASK = 0xFFFFFFFF
Tensors = Mapping[str, torch.Tensor]

# AS 241 (Wichura 1988), PPND16: numerators and denominators for |p - 1/2| <= 0.425 (CENTRE) and for
# the tails down to e^-25 (TAIL).
CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2,
     5.3941960214247511077e3, 2.1213794301586595867e4, 3.9307895800092710610e4,
     2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
TAIL = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0,
     6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
     5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip


# ---- selection


def select(
    model: PreTrainedModel,
    which: Literal["all", "matrices"] = "all",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    group: str | None = None,
    part: str | None = None,
    names: Literal["library", "canonical"] = "library",
) -> dict[str, torch.Tensor]:
    """Return the parameters to perturb, by name: no buffers, tied tensors once.

    Args:
        model: its parameters are returned themselves, not copies.
        which: "matrices" excludes tensors with fewer than two dimensions (biases, gains).
        include: shell patterns for names ("*.attention.*"); empty means every name.
        exclude: shell patterns for names to leave out.
        group: one of GROUPS, to select its tensors only.
        part: a part of the model by depth, such as "layer 0", to select its tensors only.
        names: "library" for those of "gaussian/1", "canonical" for those of "gaussian/2".

    Raises:
        ValueError: no parameter is selected.
    """
    parameters = parameters_of(model)
    selection = Selection(which, include, exclude, group, part)
    chosen = selection.of(parameters, 1 if names == "library" else 2)
    if not chosen:
        raise ValueError(
            f"no parameter is selected by {which=}, {include=}, {exclude=}, {group=}, {part=}"
        )
    return {name: parameters[tensor].data for name, tensor in chosen.items()}


def group_of(name: str) -> str:
    """Return the part of a model, one of GROUPS, under which its size is stored as a metric.

    These are the groups of version 1: metrics of stored measurements keep their meaning.
    """
    return tensor_selection.group_of(NamedTensor(name, "", ()), 1)


def rms_by_group(tensors: Tensors) -> dict[str, float]:
    """Return the root mean square of the weights of each non-empty group."""
    squares, sizes = dict.fromkeys(GROUPS, 0.0), dict.fromkeys(GROUPS, 0)
    for name, tensor in tensors.items():
        group = group_of(name)
        squares[group] += _mean_square(tensor) * tensor.numel()
        sizes[group] += tensor.numel()
    return {group: math.sqrt(squares[group] / sizes[group]) for group in GROUPS if sizes[group]}


# ---- scale


def current_std(tensors: Tensors) -> dict[str, float]:
    """Return each tensor's population standard deviation; exactly 0 for a constant tensor."""
    return {
        name: math.sqrt(_mean_square(tensor - _mean(tensor))) for name, tensor in tensors.items()
    }


def _mean(tensor: torch.Tensor) -> float:
    return sum(float(part.double().sum()) for part in _parts(tensor)) / tensor.numel()


def _mean_square(tensor: torch.Tensor) -> float:
    return sum(float(part.double().square().sum()) for part in _parts(tensor)) / tensor.numel()


def _parts(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return pieces that are small in float64: a full embedding may not fit next to the model."""
    return torch.split(tensor.flatten(), 1 << 22)


def init_std(tensors: Tensors, initializer_range: float) -> dict[str, float]:
    """Return standard deviations at initialisation from the config's `initializer_range`.

    It is that of matrices; other tensors start constant, with 0. Use it for suites without a
    checkpoint of step 0; otherwise use `current_std` of that checkpoint's tensors.
    """
    return {
        name: initializer_range if tensor.dim() >= 2 else 0.0 for name, tensor in tensors.items()
    }


def displacement_std(tensors: Tensors, noise: Noise) -> dict[str, float]:
    """Return the one std at which noise is as long as the weights: |theta| / |eps| over all.

    Gamma times it moves the weights by gamma |theta|, in a direction that is uniform on the sphere.

    Raises:
        ValueError: all weights are 0, so that no change can be relative to them.
    """
    squares = sum(_mean_square(tensor) * tensor.numel() for tensor in tensors.values())
    if squares == 0:
        raise ValueError(
            "all selected weights are 0, so that a displacement relative to them has no size: "
            "select tensors that are not all 0 (fields tensors, include and exclude), or choose "
            "another noise scale (field scale)"
        )
    length = sum(
        _mean_square(noise.like(name, tensor)) * tensor.numel() for name, tensor in tensors.items()
    )
    return dict.fromkeys(tensors, math.sqrt(squares / length))


# ---- noise


class Noise:
    """One cached draw of standard normals per parameter, shared by all gammas and checkpoints."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._made: dict[str, torch.Tensor] = {}

    def like(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return the noise of parameter `name`: fp32, with shape and device of `tensor`."""
        cached = self._made.get(name)
        if cached is None or cached.shape != tensor.shape or cached.device != tensor.device:
            cached = standard_normal(self.seed, name, tensor.numel(), tensor.device).view(
                tensor.shape
            )
            self._made[name] = cached
        return cached


def standard_normal(
    seed: int, name: str, num: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return the first `num` numbers of the noise stream (seed, name), fp32 [num].

    Philox 4x32-10 keyed by SHA-256, one 32-bit word per number, mapped through the normal quantile;
    |eps| < 6.4. Every operation is exact or correctly rounded (IEEE 754), so every device gives the
    same bits, and the numbers depend only on name and seed.
    """
    digest = hashlib.sha256(f"{STREAMS}/{seed}/{name}".encode()).digest()
    key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
    out = torch.empty(num, dtype=torch.float32, device=device)
    step = CHUNK if out.device.type == "cpu" else 1 << 24
    for i in range(0, num, step):
        blocks = torch.arange(i // 4, -(-min(i + step, num) // 4), device=device)
        zero = torch.zeros_like(blocks)
        words = torch.stack(philox((blocks & MASK, blocks >> 32, zero, zero), key), dim=1).flatten()
        out[i : i + step] = normal_quantile((words.double() + 0.5) * 2.0**-32)[: num - i]
    return out


def philox(counter: Sequence[torch.Tensor], key: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Return four words per four-word counter: Philox 4x32-10 (Salmon et al. 2011), in int64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # the 64 bits are right even if it wraps
        c0, c1, c2, c3 = (
            (right >> 32 & MASK) ^ c1 ^ k0,
            right & MASK,
            (left >> 32 & MASK) ^ c3 ^ k1,
            left & MASK,
        )
        k0, k1 = k0 + 0x9E3779B9 & MASK, k1 + 0xBB67AE85 & MASK
    return c0, c1, c2, c3


def normal_quantile(p: torch.Tensor) -> torch.Tensor:
    """Return the standard normal quantile of p in (e^-25, 1 - e^-25), float64 (AS 241).

    Its relative error is at most 1e-15.
    """
    q = p - 0.5
    z = q * _ratio(CENTRE, 0.180625 - q * q)
    tail = q.abs() > 0.425
    r = torch.sqrt(-_log(torch.minimum(p, 1.0 - p)[tail])) - 1.6
    z[tail] = _ratio(TAIL, r) * q[tail].sign()
    return z


def _log(x: torch.Tensor) -> torch.Tensor:
    """Return the natural logarithm from exact steps: x = m 2^e, ln m = 2 artanh s.

    The devices' own logarithms differ in the last bit.
    """
    m, e = torch.frexp(x)
    s = (m - 1.0) / (m + 1.0)  # in [-1/3, 0]
    square = s * s
    series = _polynomial([1.0 / (2 * k + 1) for k in range(18)], square)
    return e.double() * math.log(2.0) + 2.0 * s * series


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: torch.Tensor) -> torch.Tensor:
    return _polynomial(coefficients[0], x) / _polynomial(coefficients[1], x)


def _polynomial(coefficients: Sequence[float], x: torch.Tensor) -> torch.Tensor:
    """Evaluate by Horner's rule, rounding separately; fused rounding differs by device."""
    result = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result.mul_(x).add_(coefficient)
    return result


# ---- perturbation


@contextmanager
def perturbed(
    tensors: Tensors, stds: Mapping[str, float], gamma: float, noise: Noise
) -> Iterator[float]:
    """Perturb inside the block, in place and in fp32: theta' = theta + gamma * stds[name] * eps.

    Yields |theta' - theta| / |theta| over the selected tensors; std 0 leaves a tensor unchanged.
    On exit every weight has its original bits again.
    """
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values()), (
        "perturb fp32 weights: bf16 loses the noise"
    )
    moving = {name: tensor for name, tensor in tensors.items() if stds[name] > 0}
    originals = {name: tensor.clone() for name, tensor in moving.items()}
    before = checksum(tensors)
    try:
        change = 0.0
        for name, tensor in moving.items():
            tensor.add_(noise.like(name, tensor) * (gamma * stds[name]))
            change += _mean_square(tensor - originals[name]) * tensor.numel()
        size = sum(
            _mean_square(originals.get(name, tensor)) * tensor.numel()
            for name, tensor in tensors.items()
        )
        yield math.sqrt(change / size) if size else math.inf
    finally:
        for name, tensor in moving.items():
            tensor.copy_(originals[name])
        assert checksum(tensors) == before, "the weights were not restored"


def checksum(tensors: Tensors) -> int:
    """Return the sum of all bit patterns: exact on every device, sensitive to any weight."""
    return sum(int(tensor.view(torch.int32).sum(dtype=torch.int64)) for tensor in tensors.values())
