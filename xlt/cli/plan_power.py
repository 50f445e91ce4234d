"""How ``xlt plan --power`` is shown."""

from __future__ import annotations

from collections.abc import Sequence

from xlt.cli.lazy import lazily
from xlt.cli.output import Shown, table

with lazily():
    from xlt.verify import power as powers


def shown(found: powers.GridPower) -> Shown:
    """What the grid can show, and where the spread that this rests on is from."""
    columns = ("claim", "compared", "paper", "seeds", "smallest", "other examples", "shown", "seeds needed")
    rows = (
        (
            *(line.claim or None, line.compared, line.states, line.seeds),
            *(_range(line.smallest, "{:.1f}"), _range(line.smallest_at_large, "{:.1f}")),
            *(_range(line.shown, "{:.0f} %"), _range(line.seeds_needed, "{}")),
        )
        for line in found.lines
    )
    yield table(
        columns, rows, "What these seeds can show, in points; two numbers: by the lowest and the highest spread"
    )
    yield from (f"{line.claim or 'Any arm'}, {line.compared}: {line.note}." for line in found.lines if line.note)
    low, high = found.prior.task
    yield "Columns:"
    yield "  smallest        the true difference that verify tells from nothing in 80 % of cases; of a printed value,"
    yield "                  how far from it deviates: of a gain, the least that no gain at all is told from"
    yield "  other examples  the same if other test examples would have been as good, which no number of seeds helps"
    yield "  shown           how often the claim is 'reproduced' where the paper is right"
    yield "  seeds needed    for 80 % of that"
    yield (
        "The spread between seeds is not measured before a run. A prior stands for it, published seeds of "
        f"{found.prior.model}: {low:.2f} to {high:.2f} for a task (artifact/expected/anchors.toml)."
    )
    if found.lines[0].seeds == 1:
        yield "One seed shows no spread: verify decides nothing that rests on it, and the prior is taken for known."
    if found.sizes_unknown:
        yield f"Not known before the fetch, and not counted: test examples of {', '.join(found.sizes_unknown)}."


def _range(pair: Sequence[float | None] | None, form: str) -> str | None:
    """Two numbers, or one if they look the same; a number of seeds that is not there is more than were tried."""
    if pair is None:
        return None
    first, second = (f"> {powers.COUNTS[-1]}" if each is None else form.format(each) for each in pair)
    return first if first == second else f"{first} – {second}"
