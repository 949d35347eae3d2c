"""The outcome of each fault that a benchmark injected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Faults by kind: tried, survived and lost, with a sentence for each loss."""

    tried: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    asked: int = 0
    repeated: int = 0
    in_flight: int = 0
    left_behind: int = 0

    def add(self, kinds: Sequence[str], faults: Sequence[str]) -> None:
        self.tried.update(kinds)
        if faults:
            self.lost.update(kinds)
            self.remarks += faults


def print_table(tally: Tally) -> None:
    print("| fault | tried | survived | lost |\n| --- | ---: | ---: | ---: |")
    for kind, tried in sorted(tally.tried.items()):
        print(f"| {kind} | {tried} | {tried - tally.lost[kind]} | {tally.lost[kind]} |")
    total, lost = tally.tried.total(), tally.lost.total()
    print(f"| **all** | **{total}** | **{total - lost}** | **{lost}** |")
    print(
        f"\n{tally.asked:,} requests reached the endpoint, {tally.repeated} of them a second time; "
        f"{tally.in_flight} were in flight at a kill. {tally.left_behind} temporary files were left behind."
    )
    for remark in tally.remarks:
        print(f"LOST: {remark}")
