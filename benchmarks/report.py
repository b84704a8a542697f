"""What was measured, as a table, and whether it is enough."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One tool at both servers: requests per second of each run, in pairs, and the ratio that is wanted."""

    title: str
    goal: float
    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, for each pair: its two runs followed each other, so the machine was the same to both."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def is_reached(self) -> bool:
        return self.ratio >= self.goal


def table(comparisons: Iterable[Comparison], ours: str, theirs: str) -> str:
    """Return the table: a line for each tool and server, the ratio under them."""
    lines = []
    for comparison in comparisons:
        heads = "".join(f"{f'run {number}':>10}" for number in range(1, len(comparison.ratios) + 1))
        lines.append(f"{comparison.title + ', requests/s':<34}{heads}{'median':>10}")
        for name, rates in ((ours, comparison.ours), (theirs, comparison.theirs)):
            figures = "".join(f"{rate:>10,.0f}" for rate in (*rates, median(rates)))
            lines.append(f"  {name:<32}{figures}")
        ratios = "".join(f"{ratio:>10.2f}" for ratio in (*comparison.ratios, comparison.ratio))
        verdict = "reached" if comparison.is_reached else "MISSED"
        lines.append(f"  {'ratio':<32}{ratios}   goal {comparison.goal:.1f}: {verdict}")
        lines.append("")
    return "\n".join(lines)
