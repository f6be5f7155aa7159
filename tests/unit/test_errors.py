import inspect
import pickle

import pytest

from editsweep import errors

CLASSES = [
    c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
]


def make(error_class):
    """An instance with one word for each argument."""
    if "__init__" not in vars(error_class):
        return error_class("what to do")
    return error_class(*list(inspect.signature(error_class).parameters))


@pytest.mark.parametrize("error_class", CLASSES, ids=lambda c: c.__name__)
def test_every_error_crosses_a_process_border(error_class):
    error = make(error_class)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is error_class
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("error_class", CLASSES, ids=lambda c: c.__name__)
def test_every_error_can_be_caught_by_the_base(error_class):
    assert issubclass(error_class, errors.EditSweepError)


@pytest.mark.parametrize("error_class", [errors.ConfigError, errors.DataError])
def test_what_the_user_wrote_is_also_a_value_error(error_class):
    assert issubclass(error_class, ValueError)


def test_an_edit_error_leads_with_its_kind():
    error = errors.EditError("no_subject", "the prompt has no {}")
    assert str(error) == "no_subject: the prompt has no {}"
    assert (error.kind, error.reason) == ("no_subject", "the prompt has no {}")
