"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: int | None = None
) -> str:
    """Format a table in GitHub's Markdown.

    Args:
        header: of the columns.
        rows: of cells.
        left: columns after the first `left` are right-aligned; None for none.
    """
    count = len(header) if left is None else left
    rule = ["---"] * count + ["--:"] * (len(header) - count)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
