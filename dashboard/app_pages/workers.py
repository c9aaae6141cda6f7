"""Who measures, on what, and whether it is alive."""

import streamlit as st

from dashboard.components.theme import ago, counted, empty_state, plain
from dashboard.live import pages
from ucurve.formatting import file_size
from ucurve.schemas.workers import WorkerInfo


def card(worker: WorkerInfo) -> None:
    """One worker; only what is alive is said to measure."""
    with st.container(border=True):
        name, doing, seen = st.columns([3, 4, 2], vertical_alignment="center")
        memory = f", {file_size(worker.memory_gb * 1e9)}" if worker.memory_gb else ""
        where = f"{worker.device}{memory} · {worker.host}, process {worker.pid}"
        name.markdown(f"**{plain(worker.name)}**  \n:small[:gray[{plain(where)}]]")
        with doing:
            if not worker.alive:
                st.markdown(":gray[gone; what it held goes to another worker]")
            elif worker.measuring:
                with st.container(horizontal=True, gap="small"):
                    st.markdown("measures for")
                    for experiment in worker.measuring:
                        st.page_link(
                            "app_pages/experiment.py",
                            label=f"experiment {experiment}",
                            query_params={"id": str(experiment)},
                        )
            else:
                st.markdown(":gray[idle]")
        alive = (
            ":green-badge[:material/check: alive]"
            if worker.alive
            else ":gray-badge[:material/close: not seen]"
        )
        seen.markdown(f"{alive}  \n:small[:gray[last seen {ago(worker.seen_at)}]]")
        versions = " · ".join(
            f"{name} {version}" for name, version in sorted(worker.versions.items())
        )
        if versions:
            st.markdown(f":small[:gray[{plain(versions)}]]")


def body() -> None:
    workers = pages.shared_query("workers", lambda client: client.workers(), interval=1)
    if workers is None:
        return
    alive = [worker for worker in workers if worker.alive]
    if not workers:
        empty_state(
            "No worker has ever reported here",
            "Experiments wait until one does. `ucurve up` starts two; on another machine start one with "
            "`celery -A worker.queue worker -P threads -c 1` and this lab’s environment.",
        )
        return
    busy = sum(bool(worker.measuring) for worker in alive)
    st.markdown(f"{counted(len(alive), 'worker')} alive, {busy} measuring.")
    if not alive:
        st.warning(
            "No worker is alive: experiments wait until one is. `ucurve up` starts them again.",
            icon=":material/power_off:",
        )
    for worker in sorted(workers, key=lambda worker: (not worker.alive, worker.name)):
        card(worker)


st.title("Workers", anchor=False)
pages.run(body, interval=1)
