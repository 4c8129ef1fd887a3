"""The fault matrix holds: see `tests.matrix`, which prints it."""

import pytest

from tests.matrix import matrix, table, wrong

pytestmark = pytest.mark.anyio

ONLY_THE_PROVIDER_KNOWS = ("500, taken", "cut after the body was read", "unreadable 200", "kill -9 after the POST")


async def test_no_fault_of_a_paid_call_charges_twice_or_leaves_a_generation_open(tmp_path):
    cells = await matrix(tmp_path)
    print("\n" + table(cells))
    assert wrong(cells) == []
    assert {name: cell.end for name, cell in cells["no fault"].items() if cell.end != "completed"} == {}
    assert {cell.charges for cell in cells["no fault"].values()} == {1}
    for fault in ONLY_THE_PROVIDER_KNOWS:
        assert {cell.charges for cell in cells[fault].values()} == {1}, fault
        assert {cell.end for cell in cells[fault].values()} <= {"completed", "held"}, fault
