"""Actions on an experiment in any state: star, archive, edit, view an earlier snapshot, delete."""

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


def tools(snapshot: ExperimentSnapshot) -> None:
    """Draw the buttons, each in its own place: a button that moves on redraw loses the click."""
    with st.container(
        horizontal=True, horizontal_alignment="right", gap="xsmall", key=f"tools-{snapshot.id}"
    ):
        star, archive, edit, past, delete = (st.container(width=48) for _ in range(5))
    _star_button(star, snapshot)
    _archive_button(archive, snapshot)
    with edit:
        _edit_form(snapshot)
    with past:
        _snapshot_form(snapshot)
    with delete:
        _delete_form(snapshot)


def _star_button(place: DeltaGenerator, snapshot: ExperimentSnapshot) -> None:
    starred = stars.starred(snapshot.id)
    _icon_button(
        place,
        f"star:{snapshot.id}",
        "kid_star" if starred else "star",
        "Unstar" if starred else "Star (visible only to you)",
        lambda: _star(snapshot, not starred),
        filled=starred,
    )


def _archive_button(place: DeltaGenerator, snapshot: ExperimentSnapshot) -> None:
    archived = snapshot.experiment.archived
    barred = session.cannot_steer(snapshot.experiment.owner, "archive")
    _icon_button(
        place,
        f"archive:{snapshot.id}",
        "unarchive" if archived else "archive",
        barred or ("Unarchive" if archived else "Archive: hide from the list"),
        lambda: _archive(snapshot, not archived),
        disabled=barred is not None,
        filled=archived,
    )


def _icon_button(
    place: DeltaGenerator,
    key: str,
    icon: str,
    help: str,
    on_click: Callable[[], None],
    disabled: bool = False,
    filled: bool = False,
) -> None:
    style: Any = "primary" if filled else "secondary"
    place.button(
        f":material/{icon}:",
        key,
        help,
        on_click=on_click,
        type=style,
        disabled=disabled,
        width="stretch",
    )


def _attempt(snapshot: ExperimentSnapshot, action: Callable[[], object]) -> bool:
    """Run the action and return whether it succeeded; the page shows a refusal."""
    try:
        action()
    except ClientError as error:
        pages.set_refusal(snapshot.id, str(error))
        return False
    pages.set_refusal(snapshot.id, None)
    return True


def _archive(snapshot: ExperimentSnapshot, archived: bool) -> None:
    _attempt(snapshot, lambda: pages.client().edit(snapshot.id, archived=archived))


def _star(snapshot: ExperimentSnapshot, starred: bool) -> None:
    if _attempt(snapshot, lambda: pages.client().star(snapshot.id, starred)):
        stars.set_star(snapshot.id, starred)


# ------------------------------------------------------------ edit


def _edit_form(snapshot: ExperimentSnapshot) -> None:
    experiment = snapshot.experiment
    barred = session.cannot_steer(experiment.owner, "edit")
    with st.popover(
        ":material/edit:",
        help=barred or "Edit name, tags, notes, priority",
        disabled=barred is not None,
        width="stretch",
    ):
        problems: dict[str, str] = st.session_state.get(f"edit problems:{snapshot.id}", {})
        with st.form(f"edit:{snapshot.id}", border=False, width=460):
            keys = {field: f"edit:{snapshot.id}:{field}" for field in FIELDS}
            st.text_input("Name", experiment.name, max_chars=200, key=keys["name"])
            widgets.show_message(problems.get("name"))
            st.text_input(
                "Tags", ", ".join(experiment.tags), key=keys["tags"], placeholder="comma-separated"
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
                help="Higher runs first among your experiments.",
            )
            widgets.show_message(problems.get("priority") or problems.get(""))
            st.form_submit_button(
                "Save",
                on_click=_save,
                args=(snapshot, keys),
                type="primary",
                icon=":material/check:",
            )


def _save(snapshot: ExperimentSnapshot, keys: dict[str, str]) -> None:
    values = {field: st.session_state[key] for field, key in keys.items()}
    values["tags"] = [tag.strip() for tag in values["tags"].split(",") if tag.strip()]
    problems: dict[str, str] = {}
    try:
        pages.client().edit(snapshot.id, **values)
    except RequestRejectedError as error:
        problems = {
            problem.pointer.split("/")[1]: problem.detail
            for problem in error.problem.errors
            if "/" in problem.pointer
        }
        problems = problems or {"": str(error)}
    except ClientError as error:
        problems = {"": str(error)}
    st.session_state[f"edit problems:{snapshot.id}"] = problems
    pages.set_refusal(snapshot.id, None)


# ------------------------------------------------------------ past


def _snapshot_form(snapshot: ExperimentSnapshot) -> None:
    with st.popover(":material/history:", help="View an earlier snapshot", width="stretch"):
        caption("Shows only results finished by then.")
        created = snapshot.experiment.created_at.astimezone(UTC)
        first = created.replace(tzinfo=None, second=0, microsecond=0)
        latest = datetime.now(UTC).replace(tzinfo=None)
        moment = st.datetime_input(
            "Time (UTC)",
            latest,
            min_value=min(first, latest),
            step=60,
            key=f"moment:{snapshot.id}",
        )
        st.button(
            "View",
            f"at:{snapshot.id}",
            on_click=_view_snapshot,
            args=(moment,),
            icon=":material/history:",
        )


def _view_snapshot(moment: datetime | None) -> None:
    if moment:
        latest = datetime.now(UTC).replace(tzinfo=None)
        st.query_params["at"] = f"{min(moment, latest):%Y-%m-%dT%H:%M:%SZ}"


def leave_snapshot() -> None:
    """Show the latest results again."""
    st.query_params.pop("at", None)


# ------------------------------------------------------------ delete


def _delete_form(snapshot: ExperimentSnapshot) -> None:
    active = snapshot.experiment.state in ("queued", "running")
    barred = session.cannot_steer(snapshot.experiment.owner, "delete") or (
        "Cancel the experiment before deleting it." if active else None
    )
    with st.popover(
        ":material/delete:",
        help=barred or "Delete",
        disabled=barred is not None,
        width="stretch",
    ):
        st.markdown(f"**Delete “{plain(snapshot.experiment.name)}”?**")
        evaluations = counted(snapshot.experiment.progress.done, "finished evaluation")
        caption(
            "Deletes the experiment with its notes and links. "
            f"Its {evaluations} stay cached for other experiments."
        )
        st.button(
            "Delete permanently",
            f"delete:{snapshot.id}",
            on_click=_delete,
            args=(snapshot,),
            type="primary",
            icon=":material/delete:",
        )


def _delete(snapshot: ExperimentSnapshot) -> None:
    if _attempt(snapshot, lambda: pages.client().delete(snapshot.id)):
        st.session_state["deleted"] = snapshot.id
