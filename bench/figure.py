"""One measured figure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what was measured, in which unit, and what it is to stay below (None: told only)."""

    name: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the goal, if any, is met."""
        return self.goal is None or self.value <= self.goal
