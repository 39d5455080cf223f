"""The tables of multi-grid domain decomposition: memory and time by regions, error by halo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Markdown = Callable[[Sequence[str], Sequence[Sequence[str]]], list[str]]


def multigrid_lines(result: Mapping[str, Any], markdown: Markdown) -> list[str]:
    """Return both tables with what they show."""
    memory = result["memory"]
    sizes = list(memory)
    heads = ["", *(f"{n} x {n}, {what}" for n in sizes for what in ("window", "peak memory", "time"))]
    rows = [[name, *(c for n in sizes for c in _cells(memory[n], name))] for name in memory[sizes[0]]]
    return [
        "Peak memory and time of one forward and backward pass of one batch, on the box as a whole (plain) and by",
        "regions, with as many coarser views as the regions allow. In brackets: how many times less than plain.",
        "",
        *markdown(heads, rows),
        "",
        *_error_lines(result["error"], markdown),
    ]


def _cells(rows: Mapping[str, Any], name: str) -> list[str]:
    row, plain = rows[name], next(iter(rows.values()))
    peak = f"{row['MiB']:g} MiB" if "MiB" in row else ""
    if peak and row is not plain and row["MiB"]:
        peak += f" ({plain['MiB'] / row['MiB']:.1f}x)"
    milliseconds = row["milliseconds"]["median"]
    time = f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"
    if "speedup" in row:
        time += f" ({row['speedup']['median']:.2f}x)"
    return [str(row["window"]), peak, time]


def _error_lines(error: Mapping[str, Any], markdown: Markdown) -> list[str]:
    travel_y, travel_x = error["travel"]
    plain, *cut = error["rows"]
    levels = sorted({row["levels"] for row in cut})
    rows = [
        [
            f"{halo}/128",
            *(_error(next(r for r in cut if (r["halo"], r["levels"]) == (halo, k))) for k in levels),
        ]
        for halo in dict.fromkeys(row["halo"] for row in cut)
    ]
    return [
        f"Relative L2 error of models trained alike ({error['steps']} steps, {error['seeds']} seed(s), their least and",
        f"largest in brackets) on `{error['problem']}`, {error['grid']} x {error['grid']} points: in one step waves",
        f"travel {travel_x:g}/128 of the box along x and {travel_y:g}/128 along y and spread by",
        f"{error['diffusion length']:g}/128. On the whole box the error is {_error(plain)};",
        f"by {error['regions']} x {error['regions']} regions:",
        "",
        *markdown(["halo", *(f"{k} coarser view{'' if k == 1 else 's'}" for k in levels)], rows),
    ]


def _error(row: Mapping[str, Any]) -> str:
    return f"{100 * row['mean']:.3g} % ({100 * row['least']:.3g} to {100 * row['largest']:.3g})"
