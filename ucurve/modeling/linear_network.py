"""The two-layer linear model: sequential feature learning, then noise or misaligned fine-tuning.

    >>> problem = teacher(width=32, num_features=32, strongest=1.0, weakest=0.05, seed=0)
    >>> network = learned(problem, 10)
    >>> expected_noisy_loss(network, problem.target, (0.08, 0.08))  # the minimum: k* = 10
    2.454490100355171

x ~ N(0, I), y = A x, model W1 W2 x. The loss is 1/2 E|W1 W2 x - A x|^2 = 1/2 ||W1 W2 - A||_F^2,
summed over outputs. The spectrum is geometric, from `strongest` to `weakest`. NumPy in float64:
learning starts at weights of 1e-12, which single precision cannot follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Standard deviation of the initial weights; a smaller one separates the modes better in time.
INITIAL_SCALE = 1e-12
STEP = 0.2  # of the flow, in units of 1 / strongest; its relative error is below 1e-6 (tests)
STALLED = 20.0  # give up at this many times the expected time to learn the weakest mode


@dataclass(frozen=True)
class Teacher:
    """The target A = sum_i s_i u_i v_i' and its factors: U [p, r], s [r] descending, V [n, r]."""

    U: Array
    s: Array
    V: Array

    @property
    def target(self) -> Array:
        """Return A [p, n]."""
        return (self.U * self.s) @ self.V.T


@dataclass(frozen=True)
class Network:
    """The weights W1 [..., p, h] and W2 [..., h, n]; leading axes are draws."""

    W1: Array
    W2: Array

    @property
    def product(self) -> Array:
        """Return W1 W2 [..., p, n]."""
        return self.W1 @ self.W2


def spectrum(num_features: int, strongest: float, weakest: float) -> Array:
    """Return the strengths s_i [num_features], geometric from strongest to weakest."""
    return np.geomspace(strongest, weakest, num_features)


def teacher(width: int, num_features: int, strongest: float, weakest: float, seed: int) -> Teacher:
    """Return a target of p = n = width with Haar-random singular vectors."""
    generator = np.random.default_rng([seed, 0])
    return _rotated(spectrum(num_features, strongest, weakest), width, generator)


def misaligned(problem: Teacher, seed: int, draws: int, first: int = 0) -> Array:
    """Return targets [draws, p, n] with `problem`'s spectrum and new singular vectors."""
    generators = (np.random.default_rng([seed, 1, draw]) for draw in range(first, first + draws))
    return np.stack(
        [_rotated(problem.s, problem.U.shape[0], generator).target for generator in generators]
    )


def learned(problem: Teacher, num_learned: int) -> Network:
    """Return the exact balanced state of k features: sigma_i = s_i for i <= k, else 0; h = p."""
    root = np.sqrt(np.where(np.arange(len(problem.s)) < num_learned, problem.s, 0.0))
    pad = np.zeros((problem.U.shape[0], problem.U.shape[0] - len(root)))
    return Network(np.hstack([problem.U * root, pad]), np.vstack([(problem.V * root).T, pad.T]))


def snapshots(problem: Teacher, seed: int) -> list[Network]:
    """Run gradient flow from small random weights; return it at 0, 1, ..., r learned features.

    Snapshot k is taken when mode k lacks as much as mode k + 1 has, that is when
    sigma_k / s_k + sigma_{k+1} / s_{k+1} = 1; the last one at sigma_r = 0.99 s_r. Modes follow
    sigma_i' = 2 sigma_i (s_i - sigma_i) (Saxe et al. 2019), so a snapshot is partly through its
    next mode. Raises RuntimeError when the flow does not learn all modes.
    """
    width, target = problem.U.shape[0], problem.target
    generator = np.random.default_rng([seed, 2])
    W1, W2 = INITIAL_SCALE * generator.standard_normal((2, width, width))
    step = STEP / problem.s[0]
    limit = int(STALLED * -np.log(INITIAL_SCALE) / problem.s[-1] / step)
    saved = [Network(W1, W2)]
    for _ in range(limit):
        W1, W2 = flow_step(W1, W2, target, step)
        progress = np.einsum("ir,ij,jr->r", problem.U, W1 @ W2, problem.V) / problem.s
        while progress[len(saved) - 1 : len(saved) + 1].sum() >= (
            1.0 if len(saved) < len(problem.s) else 0.99
        ):
            saved.append(Network(W1, W2))
            if len(saved) > len(problem.s):
                return saved
    raise RuntimeError(
        f"gradient flow learned only {len(saved) - 1} of {len(problem.s)} features in {limit} steps"
    )


def flow_step(W1: Array, W2: Array, target: Array, step: float) -> tuple[Array, Array]:
    """Make one fourth-order Runge-Kutta step of W1' = (A - W1 W2) W2', W2' = W1' (A - W1 W2)."""

    def slope(a: float, d1: Array, d2: Array) -> tuple[Array, Array]:
        V1, V2 = W1 + a * d1, W2 + a * d2
        residual = target - V1 @ V2
        return residual @ V2.T, V1.T @ residual

    k1 = slope(0.0, W1, W2)
    k2 = slope(step / 2, *k1)
    k3 = slope(step / 2, *k2)
    k4 = slope(step, *k3)
    return (
        W1 + step / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0]),
        W2 + step / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1]),
    )


def loss(network: Network, target: Array) -> Array:
    """Return 1/2 ||W1 W2 - A||_F^2 [...]."""
    total: Array = np.square(network.product - target).sum(axis=(-2, -1))
    return 0.5 * total


def fixed_noise(network: Network, gamma: float) -> tuple[float, float]:
    """Return the noise std on W1 and on W2: gamma on both, independent of the weights."""
    return gamma, gamma


def relative_noise(network: Network, gamma: float) -> tuple[float, float]:
    """Return the noise std on W1 and on W2: gamma times the layer's root mean square."""
    return gamma * float(np.sqrt(np.square(network.W1).mean())), gamma * float(
        np.sqrt(np.square(network.W2).mean())
    )


def noisy(
    network: Network, stds: tuple[float, float], seed: int, draws: int, first: int = 0
) -> Network:
    """Return noise draws `first`, `first` + 1, ... of the perturbed network, [draws, ...].

    Draw j of one seed has the same noise for all networks and stds.
    """
    noise = [np.random.default_rng([seed, 3, draw]) for draw in range(first, first + draws)]
    E1 = np.stack([generator.standard_normal(network.W1.shape) for generator in noise])
    E2 = np.stack([generator.standard_normal(network.W2.shape) for generator in noise])
    return Network(network.W1 + stds[0] * E1, network.W2 + stds[1] * E2)


def expected_noisy_loss(network: Network, target: Array, stds: tuple[float, float]) -> float:
    """Return E loss under independent Gaussian noise of std g1 on W1 and g2 on W2, exactly.

    1/2 [ ||W1 W2 - A||^2 + g2^2 n ||W1||^2 + g1^2 p ||W2||^2 + g1^2 g2^2 p n h ]: the cross terms
    have mean zero. In the exact k-feature state with g1 = g2 = g it is
    1/2 [ sum_{i>k} s_i^2 + g^2 (p + n) N_k + g^4 p n h ], where N_k = sum_{i<=k} s_i.
    """
    (p, h), n = network.W1.shape, network.W2.shape[1]
    v1, v2 = stds[0] ** 2, stds[1] ** 2
    spread = (
        v2 * n * np.square(network.W1).sum()
        + v1 * p * np.square(network.W2).sum()
        + v1 * v2 * p * n * h
    )
    return float(loss(network, target) + 0.5 * spread)


def ideal_noisy_loss(s: Array, num_learned: int, gamma: float, scale: str, width: int) -> float:
    """Return E loss of the exact k-feature state from its spectrum, for p = n = h = width.

    "fixed" scale: see `expected_noisy_loss`; "relative":
    1/2 [ sum_{i>k} s_i^2 + gamma^2 (2 + gamma^2) N_k^2 / h ].
    """
    rest, total = np.square(s[num_learned:]).sum(), s[:num_learned].sum()
    if scale == "fixed":
        spread = gamma**2 * 2 * width * total + gamma**4 * width**3
    else:
        spread = gamma**2 * (2 + gamma**2) * total**2 / width
    return float(0.5 * (rest + spread))


def fine_tuned(
    network: Network, targets: Array, learning_rate: float, steps: int, l2_sp: float = 0.0
) -> Network:
    """Run gradient descent from `network` on each target [draws, p, n]; return [draws, ...].

    It minimises 1/2 ||W1 W2 - B||^2 + l2_sp / 2 (||W1 - W1(0)||^2 + ||W2 - W2(0)||^2), which is
    L2-SP (Li et al. 2018).
    """
    W1 = np.repeat(network.W1[None], len(targets), axis=0)
    W2 = np.repeat(network.W2[None], len(targets), axis=0)
    for _ in range(steps):
        residual = W1 @ W2 - targets
        slope1 = residual @ W2.swapaxes(-1, -2) + l2_sp * (W1 - network.W1)
        slope2 = W1.swapaxes(-1, -2) @ residual + l2_sp * (W2 - network.W2)
        W1, W2 = W1 - learning_rate * slope1, W2 - learning_rate * slope2
    return Network(W1, W2)


def second_order_forgetting(s: Array, num_learned: int, learning_rate: float, width: int) -> float:
    """Return E forgetting of one small misaligned step from the exact k-feature state, to lr^2.

    The first order is exactly 0: A - W has no component in the learned subspaces in which the step
    moves. The second is lr^2 / 2 E||(B - W) W2'W2 + W1W1' (B - W)||^2; with E B = 0 and
    E B_ij B_kl = delta_ik delta_jl |s|^2 / d^2 for p = n = d this is
    lr^2 [ |s|^2 / d^2 (d sum_{i<=k} s_i^2 + N_k^2) + 2 sum_{i<=k} s_i^4 ].
    The product of both layers' steps is orthogonal to A - W in expectation.
    """
    strengths = s[:num_learned]
    moved = (
        np.square(s).sum() / width**2 * (width * np.square(strengths).sum() + strengths.sum() ** 2)
    )
    return float(learning_rate**2 * (moved + 2 * (strengths**4).sum()))


def _rotated(s: Array, width: int, generator: np.random.Generator) -> Teacher:
    """Return a teacher of spectrum s with Haar-random singular vectors."""

    def orthonormal() -> Array:
        Q, R = np.linalg.qr(generator.standard_normal((width, width)))
        return (Q * np.sign(np.diag(R)))[:, : len(s)]

    return Teacher(orthonormal(), s, orthonormal())
