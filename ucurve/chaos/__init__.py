"""`ucurve chaos`: break a lab of its own for minutes, then prove that no number was harmed.

run.py            the order of a run: lab, people, faults, end, undisturbed lab, audit, report
installation.py   the lab under test: `ucurve up` as a child, restarted as systemd would
members.py        which process is what
schedule.py       which fault when, drawn from the seed
faults.py         what each fault does, and how it ends
proxy.py          links that stop forwarding or lose answers
disk.py           a file system that can be full
people.py         users who submit, pause, resume, cancel, retry and extend meanwhile
workload.py       the small experiments that they submit
database.py       everything that is asked of Postgres directly, in plain SQL
audit.py          what must hold at the end
recovery.py       seconds from each fault to the next result
report.py         the same as text and JSON
"""
