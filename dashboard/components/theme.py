"""Theme: wordmark, style sheet, badges and small elements that every page uses."""

from __future__ import annotations

import re
from html import escape
from typing import Literal

import streamlit as st

from ucurve.experiments import kinds
from ucurve.formatting import ago as ago
from ucurve.formatting import counted as counted
from ucurve.formatting import duration as duration
from ucurve.formatting import number as number
from ucurve.formatting import roughly as roughly
from ucurve.formatting import tokens as tokens
from ucurve.schemas.experiments import Experiment

Colour = Literal["red", "orange", "blue", "green", "violet", "gray"]

STATES: dict[str, tuple[Colour, str]] = {  # of experiments and of evaluations
    "queued": ("gray", "schedule"),
    "open": ("gray", "schedule"),
    "running": ("blue", "play_arrow"),
    "paused": ("orange", "pause"),
    "done": ("green", "check"),
    "failed": ("red", "error"),
    "cancelled": ("gray", "block"),
}
ANSWERS: dict[str, tuple[Colour, str]] = {  # a yes is not good news: neither green nor red
    "yes": ("blue", "check"),
    "no": ("gray", "close"),
    "undetermined": ("orange", "question_mark"),
}
LABELS = {"open": "queued"}  # of states whose stored name is not shown


def style(dark: bool) -> str:
    """Return the style sheet; Streamlit's own colours have no names here."""
    muted, alarm, link = (
        ("#a9b4bd", "#f2919a", "#7cc6de") if dark else ("#5d6873", "#9e303b", "#1a6580")
    )
    return f"""
:root {{ --muted: {muted}; --alarm: {alarm}; --link: {link}; }}
.block-container {{ max-width: 1240px; }}
[data-testid="stStatusWidget"], [data-testid="stHeaderActionElements"] {{ display: none; }}
[data-stale="true"] {{ opacity: 1 !important; transition: none !important; }}
.muted {{ color: {muted}; font-size: 0.875rem; }}
.problem {{ color: {alarm}; font-size: 0.85rem; margin: -0.7rem 0 0.4rem; }}
.parsed {{ color: {muted}; font-size: 0.8rem; margin: -0.7rem 0 0.4rem; overflow-wrap: anywhere; }}
.st-key-drafts-ask, .st-key-drafts-cover, .st-key-drafts-keep, .st-key-pulse {{
  position: absolute; height: 0; overflow: hidden;
}}
.st-key-preview {{ min-height: 8rem; }}
button:focus-visible, a:focus-visible, summary:focus-visible {{
  outline: 2px solid {link} !important; outline-offset: 2px;
}}
[data-testid="stButton"] button p, [data-testid="stMenuButton"] button p {{
  white-space: nowrap;
}}
[data-testid="stPageLink"] p {{
  white-space: normal; overflow: visible; overflow-wrap: anywhere; line-height: 1.35;
}}
[data-testid="stPageLink"] a {{ height: auto; }}
[data-testid="stButtonGroup"] [role="radiogroup"] {{
  flex-wrap: wrap; row-gap: 0.25rem; mask-image: none;
}}
@media (max-width: 1100px) {{
  .block-container {{ padding-left: 2rem; padding-right: 2rem; }}
}}
.st-key-whoami {{ position: fixed; top: 0.65rem; right: 3.5rem; width: auto; z-index: 999991; }}
.stLayoutWrapper:has(> .st-key-whoami) {{ position: absolute; }}
.sign-out {{ color: {link}; }}
a.file {{ color: {link} !important; text-decoration: none; white-space: nowrap; }}
a.file:hover {{ text-decoration: underline; }}
a.file.framed {{ display: block; text-align: center; padding: 0.4rem 0.75rem;
  border: 1px solid color-mix(in srgb, {muted} 45%, transparent);
  border-radius: 0.5rem; }}
a.file.framed:hover {{ border-color: {link}; text-decoration: none; }}
.st-key-experiment-header h1 {{ font-size: 1.6rem; padding: 0; line-height: 1.25; }}
.st-key-experiments [data-testid="stPageLink"] a {{ padding: 0; }}
.st-key-experiments [data-testid="stPageLink"] a:hover {{ background: none; }}
.st-key-experiments [data-testid="stPageLink"] p {{ font-weight: 600; font-size: 1.05rem; }}
.st-key-experiments [data-testid="stPageLink"] a:hover p {{
  color: {link}; text-decoration: underline;
}}
"""


def wordmark(dark: bool) -> str:
    """Return "ucurve" as SVG; its first letter is a U-curve with its points."""
    ink, curve, point = (
        ("#e6ebef", "#5db4d0", "#e0a030") if dark else ("#1d2733", "#1f6f8b", "#c9731a")
    )
    letters = (
        "M62 21 A7.5 7.5 0 1 0 62 33"  # c
        " M70 19 V28 A6.5 6.5 0 0 0 83 28 V19 M83 28 V35"  # u
        " M92 35 V19 M92 26 A7 7 0 0 1 100 19.3"  # r
        " M104 19 L110.5 35 L117 19"  # v
        " M122.5 27 H137 A7.3 7.3 0 1 0 134.6 32.6"  # e
    )
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2.7" fill="{point}"/>'
        for x, y in [(6, 9), (14, 27), (24, 35), (34, 27), (42, 9)]
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 3 142 38" width="142" height="38" '
        f'fill="none" stroke-linecap="round" stroke-linejoin="round"><title>ucurve</title>'
        f'<path d="M6 9 C10 44 38 44 42 9" stroke="{curve}" stroke-width="3"/>{dots}'
        f'<path d="{letters}" stroke="{ink}" stroke-width="2.6"/></svg>'
    )


def page_icon() -> str:
    """Return the U alone as SVG; an icon by name would be fetched from the network."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" fill="none" '
        'stroke-linecap="round">'
        '<path d="M6 9 C10 46 38 46 42 9" stroke="#2f88a8" stroke-width="6"/>'
        '<circle cx="24" cy="36.5" r="6" fill="#d98a1f"/></svg>'
    )


def kind_title(kind: str) -> str:
    """Return the title of an experiment type, also of one that this lab does not have."""
    return getattr(kinds().get(kind), "title", "") or kind.replace("_", " ").capitalize()


def badge(state: str, styles: dict[str, tuple[Colour, str]] = STATES) -> str:
    """Return a state or an answer as a badge, in Markdown."""
    colour, icon = styles[state]
    return f":{colour}-badge[:material/{icon}: {LABELS.get(state, state)}]"


def answer_badge(answer: str, standing: str) -> str:
    """Return a verdict's badge: coloured by its answer, with what an undetermined one lacks."""
    colour, icon = ANSWERS[answer]
    return f":{colour}-badge[:material/{icon}: {plain(standing)}]"


def state_badge(experiment: Experiment) -> str:
    """Return an experiment's state as a badge; amber where it is done with failures."""
    failed = experiment.progress.failed
    if experiment.state == "done" and failed:
        return f":orange-badge[:material/warning: done with {failed:,} failed]"
    return badge(experiment.state)


def caption(text: str) -> None:
    """Draw secondary text; not Markdown."""
    st.markdown(f'<span class="muted">{escape(text)}</span>', unsafe_allow_html=True)


def small(text: str) -> str:
    """Return secondary text inside Markdown; the text itself is not Markdown."""
    return f":small[:gray[{plain(text)}]]"


def plain(text: str) -> str:
    """Escape text inside Markdown, so that it is shown as it is."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]()#+-.!|<>$:~" else char for char in text)


def message(text: str) -> str:
    """Return a message of the lab for Markdown: `commands` as code, all else as it is."""
    parts = re.split(r"`([^`\n]+)`", text)
    return "".join(f"`{part}`" if number % 2 else plain(part) for number, part in enumerate(parts))


def empty_state(title: str, text: str) -> None:
    """Draw an empty state that says what to do next."""
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.markdown(f"#### {title}", text_alignment="center", anchors=False)
        st.markdown(text, text_alignment="center")
        st.space("small")
