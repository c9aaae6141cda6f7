"""What must hold after the faults: nothing lost, doubled, wrong or stuck.

    findings = audit(people's diaries, snapshot of the broken lab, snapshot of the undisturbed one)

Every finding is one sentence under one of these headings; no findings is the proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ucurve.chaos.people import Entry, allowed_states
from ucurve.chaos.workload import key_of

LOST, DOUBLED, WRONG, STUCK = "lost", "doubled", "wrong", "stuck"
HEADINGS = (LOST, DOUBLED, WRONG, STUCK)
TIMINGS = ("tokens_per_second", "seconds_training")  # measured speed, not a result
Rows = Sequence[Mapping[str, Any]]
Snapshot = Mapping[str, Rows]


@dataclass(frozen=True)
class Finding:
    heading: str
    text: str


def audit(
    diaries: Sequence[Sequence[Entry]],
    broken: Snapshot,
    undisturbed: Snapshot,
    weights: tuple[Mapping[str, str], Mapping[str, str]],
) -> list[Finding]:
    """Return everything that is not as it must be; weights: hashes by file of both labs."""
    return [
        *submissions(diaries, broken["experiments"]),
        *states(diaries, broken["experiments"]),
        *counters(broken["experiments"]),
        *results(broken["measurements"]),
        *values(broken["measurements"], undisturbed["measurements"]),
        *registered(broken["checkpoints"], undisturbed["checkpoints"]),
        *trained(*weights),
        *leftovers(broken["measurements"]),
    ]


def submissions(diaries: Sequence[Sequence[Entry]], experiments: Rows) -> Iterator[Finding]:
    """Every acknowledged submission exists exactly once, an unanswered one at most once."""
    found = Counter(key_of(row["name"], row["spec"]) for row in experiments)
    ids = {row["id"]: key_of(row["name"], row["spec"]) for row in experiments}
    for entry in (e for diary in diaries for e in diary if e.action in ("submit", "extend")):
        count = found.pop(entry.key, 0)
        if count > 1:
            yield Finding(DOUBLED, f"{entry.key} ({entry.fate}) exists {count} times")
        if entry.fate == "acknowledged" and ids.get(entry.id or 0) != entry.key:
            yield Finding(LOST, f"{entry.key} was acknowledged as #{entry.id} and is not there")
        if entry.fate == "rejected" and count:
            yield Finding(WRONG, f"{entry.key} was rejected ({entry.status}) and exists")
    for key in found:
        yield Finding(WRONG, f"{key} exists and was never requested")


def states(diaries: Sequence[Sequence[Entry]], experiments: Rows) -> Iterator[Finding]:
    """Experiments are as their owners left them, and nothing is queued or running."""
    rows = {row["id"]: row for row in experiments}
    for diary in diaries:
        for id, allowed in allowed_states(list(diary)).items():
            if id not in rows:
                continue  # reported as lost
            state = rows[id]["state"]
            # The last points of a paused experiment may be measured for another one.
            before = {"active", "paused"} if state in ("done", "failed") else {state}
            if not before & allowed:
                yield Finding(WRONG, f"#{id} is {state}, its owner left it {sorted(allowed)}")
    for row in experiments:
        left = row["points"] - row["points_done"] - row["points_failed"]
        if row["state"] == "active":
            yield Finding(STUCK, f"#{row['id']} is still queued or running, {left} points left")
        elif row["state"] in ("done", "failed") and left:
            yield Finding(STUCK, f"#{row['id']} is {row['state']} with {left} unfinished points")


def counters(experiments: Rows) -> Iterator[Finding]:
    """Counts that lists show are those of the points."""
    for row in experiments:
        shown = (row["num_points"], row["num_done"], row["num_failed"])
        counted = (row["points"], row["points_done"], row["points_failed"])
        if shown != counted or row["points_miscounted"]:
            yield Finding(
                WRONG,
                f"#{row['id']} shows {shown} points, done, failed and has {counted}; "
                f"{row['points_miscounted']} points are marked differently from their measurement",
            )


def results(measurements: Rows) -> Iterator[Finding]:
    """A finished point has one result, which its row shows."""
    for row in measurements:
        expected = 1 if row["state"] == "done" else 0
        if row["num_results"] != expected:
            heading = DOUBLED if row["num_results"] > 1 else LOST
            yield Finding(
                heading, f"point {row['id']} is {row['state']} with {row['num_results']} results"
            )
        if row["state"] == "done" and (
            row["attempt_outcome"] != "done" or row["metrics"] != row["attempt_metrics"]
        ):
            yield Finding(WRONG, f"point {row['id']} shows other numbers than its attempt")
        # Given up after three lost workers, as documented, and of no experiment that was retried.
        given_up = row["num_lost"] and not {"active", "done", "failed"} & {
            *(row["wanted_by"] or ())
        }
        if row["state"] == "failed" and not given_up:
            yield Finding(WRONG, f"point {row['id']} failed: {row['error']}")


def values(broken: Rows, undisturbed: Rows) -> Iterator[Finding]:
    """Every number, and every curve behind it, is equal bit for bit."""
    expected = {row["identity"]: row for row in undisturbed}
    for row in (row for row in broken if row["state"] == "done"):
        other = expected.get(row["identity"])
        if other is None or other["state"] != "done":
            yield Finding(WRONG, f"point {row['id']} has no number in the undisturbed lab")
            continue
        for name in sorted({*row["metrics"], *other["metrics"]} - {*TIMINGS}):
            ours, theirs = row["metrics"].get(name), other["metrics"].get(name)
            if ours != theirs:
                yield Finding(WRONG, f"point {row['id']}: {name} is {ours}, undisturbed {theirs}")
        if row["nonfinite"] != other["nonfinite"] or row["series"] != other["series"]:
            yield Finding(WRONG, f"point {row['id']}: its curve differs from the undisturbed one")


def registered(broken: Rows, undisturbed: Rows) -> Iterator[Finding]:
    """Every pre-trained checkpoint is registered with the hash of the undisturbed one."""
    expected = {(row["suite"], row["revision"]): row["weights_sha256"] for row in undisturbed}
    for row in broken:
        key = (row["suite"], row["revision"])
        if row["weights_sha256"] != expected.get(key):
            yield Finding(WRONG, f"weights of {key[0]} {key[1]} differ from the undisturbed ones")


def trained(broken: Mapping[str, str], undisturbed: Mapping[str, str]) -> Iterator[Finding]:
    """Every file of trained weights is equal to the undisturbed one of the same name."""
    for name, digest in broken.items():
        if name not in undisturbed:
            yield Finding(WRONG, f"{name} does not exist in the undisturbed lab")
        elif undisturbed[name] != digest:
            yield Finding(WRONG, f"{name} differs from the undisturbed one")


def leftovers(measurements: Rows) -> Iterator[Finding]:
    """Nothing is leased or open without an experiment, and no attempt still runs."""
    for row in measurements:
        if row["state"] == "running" or row["lease_owner"] is not None:
            yield Finding(STUCK, f"point {row['id']} is still leased to {row['lease_owner']}")
        if row["num_running"]:
            yield Finding(STUCK, f"point {row['id']} has {row['num_running']} attempts running")
        if row["state"] == "open" and not {"active", "paused", "cancelled"} & {
            *(row["wanted_by"] or ())
        }:
            yield Finding(STUCK, f"point {row['id']} is open and belongs to no experiment")
