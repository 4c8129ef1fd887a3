"""Money is added up by index: what a day has cost, who waits for it, and what a month was."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from pipeline import admission
from pipeline.db import Tx
from pipeline.spending import Bound, Caps, Money, Purse, today
from pipeline.spending.usage import By, Span, usage
from tests.pipeline.engines import Place
from tests.pipeline.spending_help import admit, arrive, pay, purse
from tests.pipeline.test_migrations import Explained

pytestmark = pytest.mark.anyio

ALL = purse(user="1", providers="9", service="9")
PLAY = Purse(Caps.of_texts(user="1", providers="9", service="9", chosen=[Bound.SERVICE], play=["mock"]))

ASKED: list[tuple[str, Callable[[Tx], object], set[str]]] = [
    ("provider", lambda tx: Money(tx, ALL).of_provider("a"), {"submission_provider", "generation_reserved"}),
    ("user", lambda tx: Money(tx, ALL).of_user("default", "ann"), {"submission_user", "generation_reserved"}),
    ("nobody", lambda tx: Money(tx, ALL).of_user("default", None), {"submission_user", "generation_reserved"}),
    ("no play money", lambda tx: Money(tx, PLAY).of_user("default", "ann"), {"submission_user", "generation_reserved"}),
    ("service", lambda tx: today(tx, ALL), {"submission_provider", "generation_reserved"}),
    ("who waits", admission.unfunded, {"job_waiting"}),
    (
        "admission",
        lambda tx: admission.admit(tx, limit=9, bounds=admission.Bounds(9), purse=purse(user="1")),
        {"job_waiting", "submission_user", "generation_reserved"},
    ),
    ("usage", lambda tx: usage(tx, Span(0, 1 << 60, "default"), By.USER, limit=9), {"submission_provider"}),
]


@pytest.mark.parametrize(("name", "unit", "indexes"), ASKED, ids=[name for name, _, _ in ASKED])
async def test_no_sum_of_money_reads_a_whole_table(
    sqlite_place: Place, name: str, unit: Callable[[Tx], object], indexes: set[str]
) -> None:
    db, caps = sqlite_place.open(), purse(user="1")
    for _ in range(4):
        await arrive(db, 0.4)
    await admit(db, caps)
    await pay(db, caps)
    Explained.plans.clear()
    await db.write(lambda tx: unit(Explained(tx.connection, tx.now, postgres=False)))
    plans = list(Explained.plans)
    used = {match for plan in plans for match in re.findall(r"INDEX (\w+)", plan)}
    assert indexes <= used, plans
    whole = [plan for plan in plans if re.match(r"SCAN (submission|generation|job|s|g|j)\b(?!.*INDEX)", plan)]
    # the rows that a subquery found by its index are scanned under the same letter
    assert [plan for plan in whole if plan != "SCAN j"] == [], (name, plans)
