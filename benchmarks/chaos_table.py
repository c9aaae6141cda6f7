"""The reports of several runs of `ucurve chaos` as one Markdown table.

for seed in 1 2 3 4 5; do ucurve chaos --minutes 10 --seed $seed --json chaos-$seed.json; done
python benchmarks/chaos_table.py chaos-*.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from ucurve.chaos.faults import Fault
from ucurve.chaos.recovery import Recovery, table


def recoveries(reports: list[dict[str, Any]]) -> list[Recovery]:
    """All faults of all runs."""
    return [
        Recovery(Fault(**row["fault"]), row["seconds"], row["had_work"])
        for report in reports
        for row in report["recoveries"]
    ]


def main() -> None:
    reports = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    found = recoveries(reports)
    print("| seconds to the next result after | faults | without work | median | 95 % | worst |")
    print("|---|---|---|---|---|---|")
    for line in table(found):
        numbers = [
            f"{n:.1f}" if n is not None else "-" for n in (line.median, line.p95, line.worst)
        ]
        print(f"| {line.kind} | {line.count} | {line.no_work} | {' | '.join(numbers)} |")
    print()
    print("| seed | began | load | faults | results compared | lost, doubled, wrong, stuck |")
    print("|---|---|---|---|---|---|")
    for report in reports:
        count = Counter(finding["heading"] for finding in report["findings"])
        count["stuck"] += len(report["never_restarted"])
        verdict = ", ".join(str(count[name]) for name in ("lost", "doubled", "wrong", "stuck"))
        print(
            f"| {report['seed']} | {report['began']} | {report['load_during']:.1f} "
            f"| {len(report['recoveries'])} | {report['num_compared'].get('results', 0)} "
            f"| {verdict}{'' if report['holds'] else ' (does not hold)'} |"
        )
    retried = sum(report["num_retried"] for report in reports)
    ended = sum(len(report["supervisor_ended"]) for report in reports)
    print(f"\nThe supervisor ended unprompted {ended} times. Retried at the end: {retried}.")


if __name__ == "__main__":
    main()
