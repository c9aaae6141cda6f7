"""Real draws for `contrast_calibration.py`: loss of a suite under many noise seeds, from a lab.

    make up
    python benchmarks/real_draws.py --gamma 0.1 -o draws-0.1.npy
    python benchmarks/contrast_calibration.py --draws draws-0.1.npy

Writes losses in nats [num_checkpoints, num_seeds], ascending in tokens, of one pre-training run. A
lab that has measured them answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ucurve import Client


def losses_of(table: pd.DataFrame, replicate: int, num_seeds: int) -> NDArray[np.float64]:
    """Return the losses of one pre-training run under noise, [num_checkpoints, num_seeds].

    Raises ValueError where one is not measured or not finite.
    """
    rows = table[(table["replicate"] == replicate) & (table["gamma"] > 0)]
    wide = rows.pivot(index="tokens", columns="draw", values="nll_mean").sort_index()
    losses = wide.to_numpy(dtype=float)
    if losses.shape[1] != num_seeds or not np.isfinite(losses).all():
        raise ValueError(
            f"{int(np.isfinite(losses).sum())} finite losses of {len(wide)} checkpoints with "
            f"{num_seeds} noise seeds each: choose a smaller gamma, or retry what failed"
        )
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="tiny")
    parser.add_argument("--replicate", type=int, default=0, help="pre-training seed")
    parser.add_argument("--scale", default="init_std", choices=["init_std", "current_std"])
    parser.add_argument("--gamma", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=64, help="noise seeds")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".npy")
    arguments = parser.parse_args()
    client = Client()
    experiment = client.submit(
        {
            "kind": "gaussian_perturbation",
            "suite": arguments.suite,
            "gammas": [arguments.gamma],
            "scale": arguments.scale,
            "draws": arguments.seeds,
        },
        name=f"real draws of {arguments.suite}, gamma {arguments.gamma:g}",
    )
    client.wait(experiment.id)
    losses = losses_of(client.table(experiment.id), arguments.replicate, arguments.seeds)
    np.save(arguments.output, losses)
    spread = losses.std(axis=1, ddof=1)
    print(f"{losses.shape[0]} checkpoints x {losses.shape[1]} noise seeds in {arguments.output}")
    print("standard deviation over noise seeds:", np.array2string(spread, precision=4))


if __name__ == "__main__":
    main()
