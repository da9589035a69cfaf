"""What a benchmark prints: a table for people, one JSON line per figure for programs."""

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure over all rounds. `gate` is judged on the median; None: only reported."""

    name: str
    what: str
    values: Sequence[float]
    unit: str = "ratio"
    gate_min: float | None = None
    gate_max: float | None = None
    aim: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool:
        low = self.gate_min is None or self.median >= self.gate_min
        return low and (self.gate_max is None or self.median <= self.gate_max)

    @property
    def gate(self) -> str:
        if self.gate_min is not None:
            return f">= {self.gate_min:g}"
        return "" if self.gate_max is None else f"<= {self.gate_max:g}"


def report(title: str, figures: Sequence[Figure]) -> bool:
    """Print the figures; return whether every gate holds."""
    table = Table(title=title, title_justify="left")
    for column in ("figure", "what", "median", "min", "max", "gate", "aim", ""):
        table.add_column(column, justify="right" if column in {"median", "min", "max"} else "left")
    for figure in figures:
        unit = "" if figure.unit == "ratio" else f" {figure.unit}"
        verdict = "" if not figure.gate else ("holds" if figure.holds else "MISSED")
        table.add_row(
            figure.name,
            figure.what,
            f"{figure.median:,.3g}{unit}",
            f"{min(figure.values):,.3g}",
            f"{max(figure.values):,.3g}",
            figure.gate,
            "" if figure.aim is None else f"{figure.aim:g}",
            verdict,
        )
    Console(width=130).print(table)
    for figure in figures:
        line = {
            "figure": figure.name,
            "what": figure.what,
            "unit": figure.unit,
            "median": round(figure.median, 4),
            "min": round(min(figure.values), 4),
            "max": round(max(figure.values), 4),
            "rounds": len(figure.values),
            "gate": figure.gate,
            "holds": figure.holds,
        }
        print(json.dumps(line), flush=True)
    return all(figure.holds for figure in figures)


def machine() -> str:
    """Return the machine in one line."""
    cores = os.cpu_count() or 0
    where = f"{platform.system()} {platform.machine()}, {cores} cores"
    return f"{where}, Python {platform.python_version()}"


def sync_probe_ms(folder: Path) -> float:
    """Return what one synced write of 4 KiB costs on this disk now: median of 20."""
    path = folder / "sync-probe"
    times = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(20):
            started = time.perf_counter()
            os.write(descriptor, b"x" * 4096)
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times)
