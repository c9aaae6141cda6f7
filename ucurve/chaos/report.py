"""The outcome of a run, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ucurve.chaos.audit import HEADINGS, STUCK, Finding
from ucurve.chaos.recovery import Recovery, table

MOST_SHOWN = 20  # findings per heading in the text; the JSON has all


@dataclass
class Report:
    """Everything that a run found."""

    seed: int
    minutes: float
    began: str  # ISO 8601
    code: str
    cores: int
    load_before: float
    load_during: float  # mean of the one-minute average
    num_planned: int = 0
    means: dict[str, str] = field(default_factory=dict)  # fault: how it was done
    not_possible: dict[str, str] = field(default_factory=dict)  # kind of fault: why not
    without_target: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    experiments: dict[str, int] = field(default_factory=dict)
    num_results: int = 0
    num_attempts_lost: int = 0
    num_retried: int = 0  # experiments with points given up after three lost workers
    server_errors: list[str] = field(default_factory=list)
    supervisor_ended: list[str] = field(default_factory=list)
    never_restarted: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    num_compared: dict[str, int] = field(default_factory=dict)
    seconds_to_finish: float = 0.0
    problems: list[str] = field(default_factory=list)  # that kept the run from its end

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled, wrong or stuck, and everything was checked."""
        return not (self.findings or self.supervisor_ended or self.never_restarted or self.problems)

    def as_json(self) -> dict[str, Any]:
        """Return the whole report for a file."""
        lines = [asdict(line) for line in table(self.recoveries)]
        return {"holds": self.holds, **asdict(self), "table": lines}


def text(report: Report) -> str:
    """Return the report as people read it."""
    count = Counter(finding.heading for finding in report.findings)
    count[STUCK] += len(report.never_restarted)
    verdicts = ", ".join(f"{count[heading]} {heading}" for heading in HEADINGS)
    return "\n".join(
        [
            "",
            *_table(report.recoveries),
            "",
            *_circumstances(report),
            *_details(report),
            "",
            f"{len(report.recoveries)} faults: {verdicts}; the supervisor ended unprompted "
            f"{len(report.supervisor_ended)} times.",
            "Everything holds." if report.holds else "It does NOT hold.",
        ]
    )


def _table(recoveries: Sequence[Recovery]) -> list[str]:
    title = "seconds to the next result after"
    lines = [f"{title:44}{'faults':>7}{'no work':>8}{'median':>8}{'95 %':>8}{'worst':>8}"]
    for line in table(recoveries):
        numbers = "".join(
            f"{number:8.1f}" if number is not None else f"{'-':>8}"
            for number in (line.median, line.p95, line.worst)
        )
        lines.append(f"{line.kind:44}{line.count:7}{line.no_work:8}{numbers}")
    return lines


def _circumstances(report: Report) -> list[str]:
    def counts(named: dict[str, int]) -> str:
        return ", ".join(f"{number} {name}" for name, number in sorted(named.items()))

    return [
        f"seed {report.seed}, {report.minutes:g} minutes, began {report.began}, code {report.code}",
        f"load average {report.load_before:.1f} before and {report.load_during:.1f} during, on "
        f"{report.cores} cores: recovery on a busy machine is an upper bound",
        f"requests: {counts(report.requests)}",
        f"experiments at the end: {counts(report.experiments)}; "
        f"{report.num_results} results, {report.num_attempts_lost} attempts lost to faults; "
        f"all done {report.seconds_to_finish:.0f} s after the last fault",
        f"compared with an undisturbed lab: {counts(report.num_compared)}",
        f"experiments retried because a point lost three workers: {report.num_retried}",
        f"planned faults without a running target: {report.without_target}",
        *(f"{fault}: by {how}" for fault, how in report.means.items()),
        *(f"not possible here: {kind} ({why})" for kind, why in report.not_possible.items()),
    ]


def _details(report: Report) -> list[str]:
    lines: list[str] = []
    for heading in HEADINGS:
        texts = [finding.text for finding in report.findings if finding.heading == heading]
        lines += [f"{heading}: {text}" for text in texts[:MOST_SHOWN]]
        if len(texts) > MOST_SHOWN:
            lines.append(f"{heading}: and {len(texts) - MOST_SHOWN} more")
    lines += [f"stuck: {name} was stopped and never restarted" for name in report.never_restarted]
    lines += [f"supervisor ended unprompted: {how}" for how in report.supervisor_ended]
    lines += [f"problem: {problem}" for problem in report.problems]
    errors = Counter(report.server_errors)
    lines += [f"server error seen by people: {e} ({n} times)" for e, n in errors.most_common(10)]
    return lines
