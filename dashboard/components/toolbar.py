"""What may be done with an experiment at any time: star, archive, edit, look at it as it stood, delete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.auth import session
from dashboard.components import stars
from dashboard.components.theme import caption, counted, plain
from dashboard.forms import widgets
from dashboard.live import pages
from dashboard.live.poller import ExperimentSnapshot
from ucurve.client import ClientError, RequestRejectedError

FIELDS = ("name", "tags", "notes", "priority")


def tools(now: ExperimentSnapshot) -> None:
    """Each has its own place: a button that moves while the page is redrawn loses the click."""
    with st.container(
        horizontal=True, horizontal_alignment="right", gap="xsmall", key=f"tools-{now.id}"
    ):
        star, archive, edit, past, delete = (st.container(width=48) for _ in range(5))
    starred, archived = stars.starred(now.id), now.experiment.archived
    barred = session.cannot_steer(now.experiment.owner, "archive")
    _icon(star, now, "star", "star" if not starred else "kid_star", "Take your star off" if starred else "Star it, for yourself",
          _star, (now, not starred), filled=starred)  # fmt: skip
    _icon(archive, now, "archive", "unarchive" if archived else "archive", barred or ("Bring back into the list" if archived
          else "Archive: leave it out of the list"), _archive, (now, not archived),
          disabled=barred is not None, filled=archived)  # fmt: skip
    with edit:
        _edit(now)
    with past:
        _past(now)
    with delete:
        _delete(now)


def _icon(
    place: DeltaGenerator, now: ExperimentSnapshot, name: str, icon: str, help: str, do: Callable[..., None], args: tuple[Any, ...],
    disabled: bool = False, filled: bool = False,
) -> None:  # fmt: skip
    colour: Any = "primary" if filled else "secondary"
    label = f":material/{icon}:"
    place.button(
        label,
        f"{name}:{now.id}",
        help,
        on_click=do,
        args=args,
        type=colour,
        disabled=disabled,
        width="stretch",
    )


def _done(now: ExperimentSnapshot, call: Callable[[], object]) -> bool:
    """Do it; a refusal is said on the page."""
    try:
        call()
    except ClientError as error:
        pages.set_refusal(now.id, str(error))
        return False
    pages.set_refusal(now.id, None)
    return True


def _archive(now: ExperimentSnapshot, archived: bool) -> None:
    _done(now, lambda: pages.client().edit(now.id, archived=archived))


def _star(now: ExperimentSnapshot, starred: bool) -> None:
    if _done(now, lambda: pages.client().star(now.id, starred)):
        stars.noted(now.id, starred)


# ------------------------------------------------------------------------------------------- edit


def _edit(now: ExperimentSnapshot) -> None:
    experiment = now.experiment
    barred = session.cannot_steer(experiment.owner, "edit")
    with st.popover(
        ":material/edit:",
        help=barred or "Name, tags, notes, priority",
        disabled=barred is not None,
        width="stretch",
    ):
        problems: dict[str, str] = st.session_state.get(f"edit problems:{now.id}", {})
        with st.form(f"edit:{now.id}", border=False, width=460):
            keys = {field: f"edit:{now.id}:{field}" for field in FIELDS}
            st.text_input("Name", experiment.name, max_chars=200, key=keys["name"])
            widgets.show_message(problems.get("name"))
            st.text_input(
                "Tags",
                ", ".join(experiment.tags),
                key=keys["tags"],
                placeholder="separated by commas",
            )
            widgets.show_message(problems.get("tags"))
            st.text_area("Notes", experiment.notes, key=keys["notes"], height=180, help="Markdown")
            widgets.show_message(problems.get("notes"))
            st.number_input(
                "Priority",
                -10,
                10,
                experiment.priority,
                key=keys["priority"],
                help="Higher is measured first.",
            )
            widgets.show_message(problems.get("priority") or problems.get(""))
            st.form_submit_button(
                "Save", on_click=_save, args=(now, keys), type="primary", icon=":material/check:"
            )


def _save(now: ExperimentSnapshot, keys: dict[str, str]) -> None:
    typed = {field: st.session_state[key] for field, key in keys.items()}
    typed["tags"] = [tag.strip() for tag in typed["tags"].split(",") if tag.strip()]
    problems: dict[str, str] = {}
    try:
        pages.client().edit(now.id, **typed)
    except RequestRejectedError as error:
        problems = {
            found.pointer.split("/")[1]: found.detail
            for found in error.problem.errors
            if "/" in found.pointer
        }
        problems = problems or {"": str(error)}
    except ClientError as error:
        problems = {"": str(error)}
    st.session_state[f"edit problems:{now.id}"] = problems
    pages.set_refusal(now.id, None)


# ------------------------------------------------------------------------------------------- as it stood


def _past(now: ExperimentSnapshot) -> None:
    with st.popover(":material/history:", help="As it stood at an earlier moment", width="stretch"):
        caption("What had been measured by then, whatever was measured since.")
        first = now.experiment.created_at.astimezone(UTC).replace(
            tzinfo=None, second=0, microsecond=0
        )
        latest = datetime.now(UTC).replace(tzinfo=None)
        chosen = st.datetime_input(
            "Moment (UTC)", latest, min_value=min(first, latest), step=60, key=f"moment:{now.id}"
        )
        st.button(
            "Show", f"at:{now.id}", on_click=_go_back, args=(chosen,), icon=":material/history:"
        )


def _go_back(moment: datetime | None) -> None:
    if moment:
        st.query_params["at"] = (
            f"{min(moment, datetime.now(UTC).replace(tzinfo=None)):%Y-%m-%dT%H:%M:%SZ}"
        )


def leave_snapshot() -> None:
    """To what is known now."""
    st.query_params.pop("at", None)


# ------------------------------------------------------------------------------------------- delete


def _delete(now: ExperimentSnapshot) -> None:
    going = now.experiment.state in ("queued", "running")
    barred = session.cannot_steer(now.experiment.owner, "delete") or (
        "Cancel it first." if going else None
    )
    with st.popover(
        ":material/delete:",
        help=barred or "Delete it",
        disabled=barred is not None,
        width="stretch",
    ):
        st.markdown(f"**Delete “{plain(now.experiment.name)}”?**")
        numbers = counted(now.experiment.progress.done, "number")
        caption(
            f"The experiment goes, with its notes and links. Its {numbers} stay and are found by whoever plans them again."
        )
        st.button(
            "Delete for good",
            f"delete:{now.id}",
            on_click=_remove,
            args=(now,),
            type="primary",
            icon=":material/delete:",
        )


def _remove(now: ExperimentSnapshot) -> None:
    if _done(now, lambda: pages.client().delete(now.id)):
        st.session_state["deleted"] = now.id
