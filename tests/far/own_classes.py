"""A class that is nowhere installed."""

from __future__ import annotations


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number
