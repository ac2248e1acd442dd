"""Segments: the parts that a genome consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A run of loci with one meaning: the channels of a coupled group, a depth choice, the edges of a cell.

    Attributes:
        name: stable between runs; the ledger and the dashboard know the segment by it.
        size: number of loci.
        choices: every locus holds an allele in ``0 .. choices - 1`` (2 to 256); 2 is a keep bit.
    """

    name: str
    size: int
    choices: int = 2

    def __post_init__(self) -> None:
        if self.size < 1 or not 2 <= self.choices <= 256:
            raise ValueError(
                f"segment {self.name!r}: size must be at least 1 and choices 2 to 256, got {self.size} and "
                f"{self.choices}"
            )
