"""All state machines, edge by edge: what is in the table moves, everything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import incidents, training, versions
from app.domain.errors import Conflict, IllegalTransition
from app.domain.states import after

MACHINES = {
    "training run": (training.TRANSITIONS, training.RunState, training.RunEvent),
    "incident": (incidents.TRANSITIONS, incidents.IncidentState, incidents.IncidentEvent),
    "model version": (versions.TRANSITIONS, versions.VersionState, versions.VersionEvent),
}
TRIPLES = [
    (subject, state, event)
    for subject, (_, states, events) in MACHINES.items()
    for state in states
    for event in events
]


@given(st.sampled_from(TRIPLES))
def test_every_edge_leads_where_the_table_says_and_every_other_is_refused(triple):
    subject, state, event = triple
    table = MACHINES[subject][0]

    if (state, event) in table:
        assert after(table, subject, state, event) is table[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"a {subject} that is {state}"):
            after(table, subject, state, event)


@given(st.lists(st.sampled_from(list(versions.VersionEvent)), max_size=30))
def test_no_walk_makes_a_rejected_version_champion_but_by_force(events):
    state = versions.VersionState.TRAINED
    for event in events:
        try:
            reached = after(versions.TRANSITIONS, "model version", state, event)
        except IllegalTransition:
            continue
        if state is versions.VersionState.REJECTED:
            assert event is versions.VersionEvent.FORCED
        state = reached


@given(st.lists(st.sampled_from(list(training.RunEvent)), max_size=30))
def test_no_walk_leaves_the_end_of_a_run(events):
    state, ended = training.RunState.QUEUED, None
    for event in events:
        try:
            state = after(training.TRANSITIONS, "training run", state, event)
        except IllegalTransition:
            continue
        assert ended is None
        ended = None if state in training.IN_FLIGHT else state


@pytest.mark.parametrize(
    ("subject", "start"),
    [("training run", training.RunState.QUEUED), ("model version", versions.VersionState.TRAINED)],
)
def test_every_state_can_be_reached(subject, start):
    table, states, _ = MACHINES[subject]
    starts = {start, versions.VersionState.IMPORTED} if subject == "model version" else {start}
    reached, last = set(starts), None
    while reached != last:
        last = set(reached)
        reached |= {target for (source, _), target in table.items() if source in reached}

    assert reached == set(states)


def test_a_refusal_lists_what_is_possible():
    with pytest.raises(Conflict, match=r"from trained it can be cancelled, failed, succeeded"):
        after(
            training.TRANSITIONS,
            "training run",
            training.RunState.TRAINED,
            training.RunEvent.STARTED,
        )
    with pytest.raises(Conflict, match="that state is final"):
        after(
            training.TRANSITIONS,
            "training run",
            training.RunState.FAILED,
            training.RunEvent.STARTED,
        )
