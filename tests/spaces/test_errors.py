"""One way to refuse: the first condition that does not hold makes the one line that the user reads."""

import pytest

from spaces.errors import InputError, require


def test_nothing_is_refused_where_all_conditions_hold() -> None:
    require("space", (True, "wrong"), ([0], "empty"), (1, lambda: pytest.fail("written without need")))
    require("space")


@pytest.mark.parametrize("false", [False, None, 0, "", ()])
def test_the_first_condition_that_does_not_hold_is_told(false: object) -> None:
    width = 0
    with pytest.raises(InputError) as error:
        require("space", (True, "fine"), (false, f"width {width}; expected at least 1"), (False, "later"))
    assert str(error.value) == "space: width 0; expected at least 1"


def test_a_text_may_be_a_function() -> None:
    values: list[int] = []
    with pytest.raises(InputError, match=r"^mutation: the largest is none; expected a list of numbers$"):
        require(
            "mutation",
            (values, lambda: f"the largest is {max(values, default='none')}; expected a list of numbers"),
        )
