"""The threat model names its tests, and the tests name their rows."""

from __future__ import annotations

from tests.threat_model import PAGE, found_tests, rows, with_tests


def test_every_id_in_a_test_has_a_row() -> None:
    """No test claims to hold a row that the page does not have."""
    assert set(found_tests()) - set(rows(PAGE.read_text())) == set()


def test_the_page_names_the_tests_that_exist() -> None:
    """The last column is what `make docs` would write."""
    text = PAGE.read_text()

    assert text == with_tests(text)


def test_rows_of_later_parts_are_not_called_done() -> None:
    """A row's state is `now` or names the part that it comes with."""
    states = {cells[3] for cells in rows(PAGE.read_text()).values()}

    assert {state for state in states if state != "now" and not state.startswith("with ")} == set()
