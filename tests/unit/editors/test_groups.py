"""Sorting out what cannot be edited, without any editor."""

import pytest

from editsweep.editors.base import Edited
from editsweep.editors.groups import each, edit_groups
from editsweep.errors import EditError
from editsweep.testing import tiny_requests

ONE, TWO, THREE, FOUR = tiny_requests(4)


def preparing(*bad):
    """Subjects, but an error for the requests `bad`."""

    @each
    def prepare(request):
        if request in bad:
            raise EditError("refused", f"not {request.subject}")
        return request.subject

    return prepare


def editing(groups, *bad):
    """What came of the groups, and what the editor was given."""
    given = []

    def edit(ready):
        given.extend([[subject for _, subject in group] for group in ready])
        return [Edited(steps=len(group)) for group in ready]

    return edit_groups(groups, preparing(*bad), edit), given


def test_the_rest_of_a_group_is_edited_and_the_reason_stands_at_its_place():
    (one, two), given = editing([[ONE, TWO, THREE], [FOUR]], TWO)
    assert given == [[ONE.subject, THREE.subject], [FOUR.subject]]
    assert (one.steps, two.steps) == (2, 1)
    assert {place: str(error) for place, error in one.left_out.items()} == {
        1: str(EditError("refused", f"not {TWO.subject}"))
    }
    assert two == Edited(steps=1)


@pytest.mark.parametrize("first", [True, False])
def test_a_group_of_which_nothing_is_left_is_an_error_in_its_place(first):
    groups = [[ONE, TWO], [THREE]] if first else [[THREE], [ONE, TWO]]
    edited, given = editing(groups, ONE, TWO)
    failed, good = edited if first else edited[::-1]
    assert given == [[THREE.subject]]
    assert failed.error is failed.left_out[0]
    assert ONE.subject in str(failed.left_out[0])
    assert TWO.subject in str(failed.left_out[1])
    assert good == Edited(steps=1)


def test_an_editor_is_not_called_for_nothing():
    (failed,), given = editing([[ONE]], ONE)
    assert given == []
    assert failed.patch is None
    assert failed.error.kind == "refused"
    assert editing([]) == ([], [])


def test_only_an_edit_error_is_a_requests_own():
    def broken(request):
        raise KeyError(request.subject)

    with pytest.raises(KeyError):
        edit_groups([[ONE]], each(broken), lambda ready: [])
