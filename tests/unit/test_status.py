"""The table of verbs and statuses against the words of the lifecycle."""

import pytest

from skerry.errors import StateError
from skerry.state import status
from skerry.state.status import STATUSES, VERBS, check

NOT_RUNNING = "container not running"

# verb, status, text; copied from docs/lifecycle.md
REFUSALS = [
    ("start", "stopped", "cannot start a container that has stopped"),  # lifecycle 65, 90
    ("start", "running", "cannot start an already running container"),  # lifecycle 90
    ("start", "paused", "cannot start a container in the paused state"),  # lifecycle 90
    ("start", "creating", "cannot start a container in the creating state"),  # lifecycle 90
    ("exec", "stopped", "cannot exec in a stopped container"),  # lifecycle 94
    (
        "exec",
        "paused",
        "cannot exec in a paused container (use --ignore-paused to override)",
    ),  # lifecycle 94
    ("exec --ignore-paused", "stopped", "cannot exec in a stopped container"),  # lifecycle 94
    ("kill", "stopped", NOT_RUNNING),  # lifecycle 108
    ("pause", "stopped", NOT_RUNNING),  # lifecycle 110
    ("pause", "paused", NOT_RUNNING),  # lifecycle 110
    ("resume", "running", "container not paused"),  # lifecycle 110
    ("resume", "stopped", "container not paused"),  # lifecycle 110
    ("ps", "stopped", "container is stopped"),  # lifecycle 105
    ("shim", "stopped", "container is stopped"),  # lifecycle 68
    ("shim", "unknown", "container is stopped"),  # lifecycle 68
    ("delete", "running", "cannot delete container c that is not stopped: running"),  # 112
    ("delete", "paused", "cannot delete container c that is not stopped: paused"),  # 112
    ("delete", "creating", "cannot delete container c that is not stopped: creating"),  # 113
    ("checkpoint", "created", "Container cannot be checkpointed in created state"),  # section P
    ("checkpoint", "stopped", "Container cannot be checkpointed in stopped state"),  # section P
    ("events", "stopped", "container with id c is not running"),  # section P
]

# verb -> statuses; the same pages
ALLOWED = {
    "start": {"created"},  # lifecycle 90
    "exec": {"created", "running"},  # lifecycle 94
    "exec --ignore-paused": {"created", "running", "paused"},  # lifecycle 94
    "kill": {"created", "running", "paused", "unknown"},  # lifecycle 108
    "pause": {"created", "running"},  # lifecycle 110
    "resume": {"paused"},  # lifecycle 110
    "delete": {"stopped", "created"},  # lifecycle 112
    "checkpoint": {"running", "paused"},  # section P
}


@pytest.mark.parametrize(("verb", "word", "text"), REFUSALS)
def test_refusals_have_the_words_of_the_lifecycle(verb, word, text):
    with pytest.raises(StateError) as caught:
        check(verb, word, "c")
    assert str(caught.value) == text
    assert (caught.value.id, caught.value.status, caught.value.verb) == ("c", word, verb)


@pytest.mark.parametrize("verb", ALLOWED)
def test_each_verb_takes_the_statuses_of_the_lifecycle(verb):
    taken = set()
    for word in STATUSES:
        try:
            check(verb, word, "c")
        except StateError:
            continue
        taken.add(word)
    assert taken == ALLOWED[verb]


def test_delete_with_force_takes_every_status():
    """lifecycle 112, 113."""
    for word in STATUSES:
        check("delete --force", word, "c")


def test_the_statuses_are_those_of_lifecycle_99():
    assert list(STATUSES) == ["creating", "created", "running", "paused", "stopped", "unknown"]
    for allowed, words, _ in VERBS.values():
        assert set(allowed) <= set(STATUSES)
        assert set(words) <= set(STATUSES) - set(allowed)


def test_an_id_cannot_shape_the_words():
    """P19: braces in an id are an id's braces."""
    with pytest.raises(StateError, match=r"^cannot delete container \{status\} that is not"):
        check("delete", status.RUNNING, "{status}")
