"""What the files of the measured checkpoints say against their names, above the charts."""

from __future__ import annotations

import streamlit as st

from dashboard.components.theme import counted, message
from dashboard.forms.parsing import shortened
from dashboard.live.poller import ExperimentSnapshot
from ucurve.analysis.verdict_order import caveats_of


def section(snapshot: ExperimentSnapshot) -> None:
    """Draw one line with the number of remarks and the first one; a click shows all of them."""
    remarks = list(dict.fromkeys([*snapshot.experiment.remarks, *caveats_of(snapshot.verdicts)]))
    if not remarks:
        return
    label = f"{counted(len(remarks), 'remark')} on the weights: {shortened(remarks[0], 40)}"
    with st.expander(message(label), icon=":material/compare_arrows:"):
        for remark in remarks:
            st.markdown(message(remark))
