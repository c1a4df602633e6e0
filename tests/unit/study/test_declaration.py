from __future__ import annotations

from pathlib import Path

import pytest

from fettle.errors import IntegrityError
from fettle.study.declaration import declare


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "declaration.json"


def test_a_study_that_goes_on_keeps_what_it_declared(file: Path) -> None:
    first = declare("A minus B.", num_failed=0, file=file)
    assert first == "Primary comparison, declared before the test split was answered: A minus B."
    written = file.stat().st_mtime_ns
    assert declare("A minus B.", num_failed=0, file=file) == first
    assert file.stat().st_mtime_ns == written


def test_another_comparison_stops_the_study(file: Path) -> None:
    declare("A minus B.", num_failed=2, file=file)
    with pytest.raises(IntegrityError, match="another primary comparison"):
        declare("A minus C.", num_failed=2, file=file)


def test_requests_that_were_asked_again_with_success_may_change_it_and_the_report_says_so(file: Path) -> None:
    declare("A minus B.", num_failed=3, file=file)
    again = declare("A minus C.", num_failed=1, file=file)
    assert again.startswith("Primary comparison, declared again after 2 failed validation request(s)")
    assert "A minus C." in again
    assert again.endswith("Declared at first: A minus B.")
    assert declare("A minus C.", num_failed=1, file=file) == again
    with pytest.raises(IntegrityError):
        declare("A minus B.", num_failed=1, file=file)
    assert declare("A minus D.", num_failed=0, file=file).endswith("A minus D. Declared at first: A minus B.")
