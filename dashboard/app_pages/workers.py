"""The workers: their devices, what they run, and when they last reported."""

import streamlit as st

from dashboard.components.theme import ago, counted, empty_state, plain, small
from dashboard.live import pages
from ucurve.schemas.workers import WorkerInfo


def card(worker: WorkerInfo) -> None:
    with st.container(border=True):
        name, activity, seen = st.columns([3, 4, 2], vertical_alignment="center")
        memory = f", {worker.memory_gb:.0f} GB" if worker.memory_gb else ""
        device = f"{worker.device}{memory} · {worker.host}, PID {worker.pid}"
        name.markdown(f"**{plain(worker.name)}**  \n{small(device)}")
        with activity:
            _activity(worker)
        status = (
            ":green-badge[:material/check: online]"
            if worker.alive
            else ":gray-badge[:material/close: offline]"
        )
        seen.markdown(f"{status}  \n{small(f'last seen {ago(worker.seen_at)}')}")
        versions = " · ".join(
            f"{name} {version}" for name, version in sorted(worker.versions.items())
        )
        if versions:
            st.markdown(small(versions))


def _activity(worker: WorkerInfo) -> None:
    if not worker.alive:
        st.markdown(":gray[lost; its evaluations are reassigned]")
    elif worker.measuring:
        with st.container(horizontal=True, gap="small"):
            st.markdown("running")
            for experiment in worker.measuring:
                st.page_link(
                    "app_pages/experiment.py",
                    label=f"experiment {experiment}",
                    query_params={"id": str(experiment)},
                )
    else:
        st.markdown(":gray[idle]")


def body() -> None:
    workers = pages.shared_query("workers", lambda client: client.workers(), interval=1)
    if workers is None:
        return
    online = [worker for worker in workers if worker.alive]
    if not workers:
        empty_state(
            "No workers yet",
            "Experiments stay queued until a worker starts. `ucurve up` starts workers; "
            "on another machine run `celery -A worker.queue worker -P threads -c 1` "
            "with this lab’s environment.",
        )
        return
    busy = sum(bool(worker.measuring) for worker in online)
    st.markdown(f"{counted(len(online), 'worker')} online, {busy} busy.")
    if not online:
        st.warning(
            "No worker is online. Experiments stay queued until one starts: run `ucurve up`.",
            icon=":material/power_off:",
        )
    for worker in sorted(workers, key=lambda worker: (not worker.alive, worker.name)):
        card(worker)


st.title("Workers", anchor=False)
pages.run(body, interval=1)
