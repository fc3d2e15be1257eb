"""Tables for people."""

from __future__ import annotations

import statistics

from runner.model import Results, Table, Target

SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "x": ((1.0, "x"),),
}


def significant(value: float) -> str:
    """Three digits, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def quantity(value: float, unit: str) -> str:
    if value == 0:
        return f"0 {unit}"
    for scale, name in SCALES[unit]:
        if abs(value) >= scale * 0.9995:
            return f"{significant(value / scale)} {name}"
    scale, name = SCALES[unit][-1]
    return f"{significant(value / scale)} {name}"


def label(row: str, table: Table) -> str:
    """The row's name without what all rows of the table have in front ("waiting: ")."""
    prefixes = {name.partition(": ")[0] for name in table.rows if ": " in name}
    return row.partition(": ")[2] if len(prefixes) == 1 and all(": " in name for name in table.rows) else row


def target_text(target: Target, table: Table) -> str:
    sign = ">=" if target.at_least else "<="
    if target.versus:
        return f"{sign} {target.limit:g} x {label(target.versus, table)}"
    limit = quantity(target.limit, table.unit)
    return f"{sign} {limit.replace('.00', '').replace('.0 ', ' ')}"


def verdict(row: str, table: Table, results: Results) -> str:
    target = table.targets.get(row)
    if target is None:
        return ""
    value = results.checked_value(row, target)
    if value is None:
        return "not measured"
    answer = "holds" if target.holds(value) else "missed"
    return f"{answer} ({significant(value)} x)" if target.versus else answer


def cells_of(row: str, table: Table, results: Results) -> list[str]:
    name = "  " + label(row, table)
    if row in results.failures:
        return [name, f"failed: {results.failures[row]}"]
    if row in results.skipped:
        return [name, f"skipped: {results.skipped[row]}"]
    if row in results.texts:
        return [name, results.texts[row]]
    values = list(results.round_values(row).values())
    if not values:
        return [name, "not measured"]
    ratio = results.ratio(row, table.reference) if table.reference else None
    target = table.targets.get(row)
    return [
        name,
        quantity(statistics.median(values), table.unit),
        f"{quantity(min(values), table.unit)} - {quantity(max(values), table.unit)}",
        "" if ratio is None else significant(ratio),
        target_text(target, table) if target else "",
        verdict(row, table, results),
        str(len(values)),
    ]


def table_text(table: Table, results: Results) -> str:
    heading = [table.title, "median", "min - max", "ratio to ours" if table.reference else "", "target", "", "rounds"]
    lines = [heading] + [cells_of(row, table, results) for row in table.rows]
    full = [line for line in lines if len(line) == len(heading)]
    widths = [max(len(line[i]) for line in full) for i in range(len(heading))]
    widths[0] = max(len(line[0]) for line in lines)
    to_the_right = {1, 2, 3, 6}
    text = []
    for line in lines:
        if len(line) == len(heading):
            padded = [c.rjust(w) if i in to_the_right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))]
        else:
            padded = [line[0].ljust(widths[0]), line[1]]
        text.append("  ".join(padded).rstrip())
    return "\n".join(text)
