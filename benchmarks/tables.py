"""Write ``docs/benchmarks.md`` from the result files: ``python -m benchmarks.tables``.

The page is generated and never edited; a test compares it with what this module makes of the committed
results.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .machine import ROOT
from .multigrid_tables import multigrid_lines
from .record import RESULTS

PAGE = ROOT / "docs" / "benchmarks.md"
HEADER = """# Benchmarks

This page is written by `python -m benchmarks.tables` from the files in `benchmarks/results`.

All contestants of a table ran interleaved in one process, from the same weights, after a check that outputs
and gradients agree. Times are medians, speed-ups are medians of the ratio within one repeat, with the 95 %
confidence interval of that median. The allocator setting holds for all. Peak memory is that of one forward
and backward pass above the level before it, `V` being one activation field; where the allocator has a trim
threshold that level holds the gradients of an earlier pass, else it holds weights alone. Start-up is the time
of building the model and of its first step, tables included; the optional pointwise kernel is compiled once
per machine, which takes the time given under each table.
"""


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page for results by name, in the order of their names."""
    parts = [HEADER]
    for name in sorted(results):
        parts.append(_section(results[name]))
    if not results:
        parts.append("No results are committed.\n")
    return "\n".join(parts)


def load(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the committed timings by name; the quickstart's errors have their table in the README."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: found for name, found in results.items() if found["kind"] != "quickstart"}


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(load()))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def _section(result: Mapping[str, Any]) -> str:
    if result["kind"] == "multigrid":
        table = multigrid_lines(result, _markdown)
    else:
        table = _cases(result["cases"]) if "cases" in result else _phases(result)
    lines = [f"## {result['title']}", "", f"`{result['command']}`", "", *table, ""]
    if "accuracy" in result:
        found = result["accuracy"]
        ratio = result["cheaper than Li et al. at equal error"]
        lines += [
            f"With {found['steps a unit']} steps of ETDRK4 a unit of time against "
            f"{found['steps a unit of Li et al.']} of Li et al.'s scheme (error at the end "
            f"{found['error of Li et al.']:g}, ours no larger), a trajectory is **{ratio:.0f}x** cheaper.",
            "",
        ]
    if result.get("slopes"):
        grown = " and ".join(f"{name} as its power {power:g}" for name, power in result["slopes"].items())
        lines += [f"With the number of points grow {grown}.", ""]
    if "remark" in result:
        lines += [result["remark"], ""]
    lines += [_conditions(result), ""]
    return "\n".join(lines)


def _phases(result: Mapping[str, Any]) -> list[str]:
    phases = result["phases"]
    names = list(dict.fromkeys(name for phase in phases.values() for name in phase))
    startup, memory = result.get("startup_seconds", {}), result.get("peak_memory", {})
    extra = (["peak memory"] if memory else []) + (["start-up s"] if startup else [])
    rows = []
    for name in names:
        cells = [_cell(phase.get(name)) for phase in phases.values()]
        if memory:
            cells.append(f"{memory[name]['MiB']:g} MiB = {memory[name]['V']:g} V" if name in memory else "")
        if startup:
            cells.append(" + ".join(f"{s:g}" for s in startup[name].values()) if name in startup else "")
        rows.append([name, *cells])
    return _markdown(["", *phases, *extra], rows)


def _cases(cases: Mapping[str, Any]) -> list[str]:
    first = next(iter(cases.values()))
    heads = [f"{name}, {phase}" for phase, table in first["phases"].items() for name in table]
    rows = []
    for label, case in cases.items():
        cells = [_cell(row) for table in case["phases"].values() for row in table.values()]
        start = ", ".join(f"{s:g}" for s in case["first_call_seconds"].values())
        peaks = ", ".join(f"{mebibytes:g}" for mebibytes in case.get("MiB", {}).values())
        rows.append([label, *cells, start, *([peaks] if peaks else [])])
    also = ["peak MiB"] if any(case.get("MiB") for case in cases.values()) else []
    return _markdown(["case", *heads, "first call s", *also], rows)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    milliseconds = row["milliseconds"]["median"]
    text = f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"
    if "speedup" in row:
        low, high = row["speedup"]["interval"]
        text += f", **{row['speedup']['median']:.2f}x** ({low:.2f} to {high:.2f})"
    if "of the byte floor" in row:
        text += f", {row['of the byte floor']:.2f} of the byte floor"
    if "data wait" in row:
        text += f", {100 * row['data wait']['median']:.2g} % of it waiting for data"
    return text


def _conditions(result: Mapping[str, Any]) -> str:
    machine, settings = result["machine"], result["settings"]
    on = machine["gpu"] or machine["processor"]
    equal: Mapping[str, float] = result.get("equality", {})
    if "cases" in result:
        found = [case["equality"] for case in result["cases"].values()]
        equal = {key: max(case[key] for case in found) for key in found[0]}
    differences = ", ".join(f"{key} {value:.0e}" for key, value in equal.items())
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    compiled = result.get("compile_seconds")
    facts = [
        f"{on}, {machine['cores']} cores, {machine['instructions']}",
        f"{settings['threads']} thread(s), {settings['clock']} clock, {settings['repeats']} repeats",
        f"precision {settings['precision']}",
        f"allocator {settings['allocator']}",
        *([] if compiled is None else [f"kernel compiled in {compiled:g} s, once per machine"]),
        f"load average {_words(result['load_average'])}",
        *([f"largest relative differences: {differences}"] if differences else []),
        f"revision {result['revision']}",
        versions,
    ]
    return "; ".join(facts) + "."


def _words(values: Iterable[Any]) -> str:
    return " to ".join(str(value) for value in values)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


if __name__ == "__main__":
    main()
