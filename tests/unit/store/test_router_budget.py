"""A day's budget in the store: several processes stop at the limit together, and what a killed one has reserved expires."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest

from fettle.errors import ConfigError
from fettle.routing.budget import Budget, StoredBudget
from fettle.store.database import Store
from fettle.store.keys import ensure_project
from fettle.store.router_budget import RouterDay, Spending, read_spending

DAY = date(2026, 11, 27)
_SPENDS = """
import sys
from datetime import date
from pathlib import Path
from fettle.routing.budget import StoredBudget
from fettle.store.database import Store

store = Store(Path(sys.argv[1]))
budget = StoredBudget(
    store, sys.argv[2], "triage", per_day=10, expires_after_seconds=60, today=lambda: date(2026, 11, 27)
)
reserved = [one for _ in range(40) if (one := budget.reserve(0.5)) is not None]
for one in reserved[::2]:
    budget.settle(one, 0.5)
print(len(reserved))
"""


@pytest.fixture
def project_id(store: Store) -> str:
    with store.writing() as connection:
        return ensure_project(connection, "default").id


def budget_of(
    store: Store, project_id: str, *, name: str = "triage", per_day: float = 1.0, seconds: float = 60, day: date = DAY
) -> StoredBudget:
    return StoredBudget(store, project_id, name, per_day=per_day, expires_after_seconds=seconds, today=lambda: day)


def spending(store: Store, project_id: str, day: date = DAY) -> Spending:
    with store.reading() as connection:
        return read_spending(connection, RouterDay(project_id=project_id, name="triage", day=day))


def test_what_is_reserved_counts_until_it_is_settled_once(store: Store, project_id: str) -> None:
    budget: Budget = budget_of(store, project_id)
    first, second = budget.reserve(0.4), budget.reserve(0.6)
    assert first is not None
    assert second is not None
    assert budget.reserve(0.01) is None
    assert spending(store, project_id) == Spending(spent=0.0, reserved=1.0)
    budget.settle(first, 0.1)
    budget.settle(first, 5.0)
    assert spending(store, project_id) == Spending(spent=0.1, reserved=0.6)
    assert budget.reserve(0.3) is not None
    budget.settle(second, 0.0)  # it was never sent
    assert spending(store, project_id).taken == pytest.approx(0.4)


def test_every_name_project_and_day_has_its_own_budget(store: Store, project_id: str) -> None:
    with store.writing() as connection:
        other = ensure_project(connection, "other").id
    late = budget_of(store, project_id).reserve(1.0)
    assert late is not None
    assert budget_of(store, project_id).reserve(0.1) is None
    for budget in (
        budget_of(store, project_id, name="else"),
        budget_of(store, other),
        budget_of(store, project_id, day=date(2026, 11, 28)),
    ):
        assert budget.reserve(1.0) is not None
    tomorrow = budget_of(store, project_id, day=date(2026, 11, 28))
    tomorrow.settle(late, 0.25)  # it ended after midnight, and is spent on the day on which it began
    assert spending(store, project_id) == Spending(spent=0.25, reserved=0.0)
    assert spending(store, project_id, date(2026, 11, 28)).reserved == 1.0


def test_a_reservation_that_nobody_settles_counts_as_spent_once_it_expires(store: Store, project_id: str) -> None:
    lost = budget_of(store, project_id, seconds=-1).reserve(0.7)
    assert lost is not None
    budget = budget_of(store, project_id)
    assert budget.reserve(0.4) is None
    assert spending(store, project_id) == Spending(spent=0.7, reserved=0.0)
    budget.settle(lost, 0.1)  # too late: it stays as it is
    assert spending(store, project_id).spent == 0.7
    assert budget.reserve(0.3) is not None


def test_nothing_is_spent_of_no_budget_and_amounts_are_checked(store: Store, project_id: str) -> None:
    assert budget_of(store, project_id, per_day=0).reserve(0.0) is None
    with pytest.raises(ConfigError, match="budget_per_day"):
        budget_of(store, project_id, per_day=-1)
    with pytest.raises(ConfigError, match="amount"):
        budget_of(store, project_id).reserve(float("nan"))


def test_threads_stop_at_the_limit_together(store: Store, project_id: str) -> None:
    budget = budget_of(store, project_id, per_day=2)
    with ThreadPoolExecutor(8) as pool:
        reserved = list(pool.map(lambda _: budget.reserve(0.25), range(24)))
    assert sum(one is not None for one in reserved) == 8


def test_processes_stop_at_the_limit_together(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    with store.writing() as connection:
        project_id = ensure_project(connection, "default").id
    command = [sys.executable, "-c", _SPENDS, str(tmp_path / "home"), project_id]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(one.communicate(timeout=60)[0]) for one in others]
    assert all(one.returncode == 0 for one in others)
    assert sum(counts) == 20
    assert spending(store, project_id).taken == pytest.approx(10)
    store.close()
