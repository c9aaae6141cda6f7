"""One MLflow run of chaos_baseline.py: logs a metric per step and prints what was acknowledged.

python chaos_baseline_run.py TRACKING_URI EXPERIMENT STEPS SECONDS_PER_STEP
"""

from __future__ import annotations

import sys
import time

import mlflow  # type: ignore[import-not-found, unused-ignore]


def main() -> None:
    uri, experiment, steps, seconds = sys.argv[1:5]
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as run:
        print(f"run {run.info.run_id}", flush=True)
        for step in range(int(steps)):
            time.sleep(float(seconds))
            mlflow.log_metric("value", float(step), step=step)
            print(f"acknowledged {step}", flush=True)


if __name__ == "__main__":
    main()
