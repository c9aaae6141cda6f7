"""The two-layer linear model against closed forms: noise, gradient flow, misaligned tuning."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from ucurve.modeling import linear_network as linear

PROBLEM = linear.teacher(width=32, num_features=32, strongest=1.0, weakest=0.05, seed=0)
NOISE = {
    "fixed": (linear.fixed_noise, (0.04, 0.08)),
    "relative": (linear.relative_noise, (0.3, 0.8)),
}


@pytest.fixture(scope="module")
def flow() -> list[linear.Network]:
    return linear.snapshots(PROBLEM, seed=0)


def deviations(networks: list[linear.Network], ideal: bool, draws: int = 200) -> np.ndarray:
    """Return (simulated mean - closed form) / standard error per network and noise."""
    z = []
    for scale, (noise, gammas) in NOISE.items():
        for gamma in gammas:
            for learned, network in enumerate(networks):
                if scale == "relative" and learned == 0:
                    continue  # no weights, no noise: equal, not random
                stds = noise(network, gamma)
                seed = 1000 * len(z) + learned
                losses = linear.loss(linear.noisy(network, stds, seed, draws), PROBLEM.target)
                if ideal:
                    expected = linear.ideal_noisy_loss(PROBLEM.s, learned, gamma, scale, 32)
                else:
                    expected = linear.expected_noisy_loss(network, PROBLEM.target, stds)
                z.append((losses.mean() - expected) / (losses.std(ddof=1) / np.sqrt(draws)))
    return np.array(z)


def assert_standard_normal(z: np.ndarray) -> None:
    assert np.abs(z).max() < norm.isf(0.005 / len(z)), (
        f"largest |z| of {len(z)} is {np.abs(z).max():.2f}"
    )
    assert 0.8 < np.sqrt(np.square(z).mean()) < 1.2


def test_noise_on_exact_k_feature_states_gives_the_formula_for_both_noise_scales() -> None:
    assert_standard_normal(deviations([linear.learned(PROBLEM, k) for k in range(33)], ideal=True))


def test_noise_on_snapshots_of_the_flow_gives_the_closed_form_of_their_actual_weights(
    flow: list[linear.Network],
) -> None:
    assert_standard_normal(deviations(flow, ideal=False))


def test_the_formula_of_exact_states_does_not_fit_snapshots_so_the_comparison_can_fail(
    flow: list[linear.Network],
) -> None:
    assert np.abs(deviations(flow, ideal=True, draws=60)).max() > 8


def test_the_bottom_is_where_the_strength_falls_below_p_plus_n_gamma_squared() -> None:
    for gamma in (0.04, 0.05, 0.06, 0.08, 0.1, 0.12):
        curve = [linear.ideal_noisy_loss(PROBLEM.s, k, gamma, "fixed", 32) for k in range(33)]
        assert np.argmin(curve) == (PROBLEM.s > 64 * gamma**2).sum()


def test_balanced_modes_follow_the_logistic_of_the_theory() -> None:
    small = 1e-3
    root = np.sqrt(small)
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((32, 32)))
    W1, W2 = root * PROBLEM.U @ Q.T, root * Q @ PROBLEM.V.T
    time = 0.0
    for _ in range(60):
        W1, W2 = linear.flow_step(W1, W2, PROBLEM.target, 0.2)
        time += 0.2
    growth = small * np.exp(2 * PROBLEM.s * time)
    expected = PROBLEM.s * growth / (PROBLEM.s - small + growth)
    np.testing.assert_allclose(np.diag(PROBLEM.U.T @ W1 @ W2 @ PROBLEM.V), expected, rtol=1e-4)


def test_the_flow_learns_features_one_after_another_strongest_first(
    flow: list[linear.Network],
) -> None:
    for k, network in enumerate(flow):
        progress = np.diag(PROBLEM.U.T @ network.product @ PROBLEM.V) / PROBLEM.s
        assert (progress[:k] > 0.8).all(), f"snapshot {k} has not learned its features"
        assert (progress[k + 1 :] < 0.05).all(), f"snapshot {k} has learned later features"


def test_forgetting_has_no_first_order_and_its_second_order_grows_with_the_features_learned() -> (
    None
):
    targets = linear.misaligned(PROBLEM, seed=0, draws=400)
    means = []
    for k in (1, 4, 16, 32):
        state = linear.learned(PROBLEM, k)
        before = linear.loss(state, PROBLEM.target)
        small, double = (
            linear.loss(linear.fine_tuned(state, targets, rate, 1), PROBLEM.target) - before
            for rate in (1e-4, 2e-4)
        )
        np.testing.assert_allclose(
            double.mean() / small.mean(), 4, rtol=2e-3
        )  # 2 with a first order
        expected = linear.second_order_forgetting(PROBLEM.s, k, 1e-4, 32)
        assert abs(small.mean() - expected) < 4 * small.std(ddof=1) / np.sqrt(400)
        means.append(small.mean())
    assert (np.diff(means) > 0).all()


def test_misaligned_fine_tuning_gives_a_u_and_l2_sp_moves_its_bottom_at_a_price(
    flow: list[linear.Network],
) -> None:
    targets = linear.misaligned(PROBLEM, seed=0, draws=8)
    bottoms, prices = {}, {}
    for l2_sp in (0.0, 1.0):
        tuned = [linear.fine_tuned(network, targets, 0.05, 40, l2_sp) for network in flow]
        after = np.array([linear.loss(network, PROBLEM.target).mean() for network in tuned])
        bottoms[l2_sp], prices[l2_sp] = int(after.argmin()), linear.loss(tuned[-1], targets).mean()
        assert after[-1] > after.min()
    assert 8 <= bottoms[0.0] <= 11
    assert 22 <= bottoms[1.0] <= 25
    assert prices[1.0] > 2 * prices[0.0]


def test_the_same_seed_gives_the_same_noise_to_every_network_and_gamma() -> None:
    one, two = linear.learned(PROBLEM, 3), linear.learned(PROBLEM, 20)
    first = linear.noisy(one, (0.1, 0.1), seed=5, draws=3).W1 - one.W1
    second = linear.noisy(two, (0.2, 0.2), seed=5, draws=2).W1 - two.W1
    np.testing.assert_allclose(2 * first[:2], second)
