"""Text that others wrote, made fit to be shown."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """``text`` with an escape in the place of every character that is not shown as itself, those of ``keep`` excepted.

    Such are control characters and the escape sequences that repaint a terminal, marks that reverse the direction of
    reading, line ends, and the lone surrogates that stand for bytes of a file name that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escape(each) for each in text)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``: a number of things whose name gets an s."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
