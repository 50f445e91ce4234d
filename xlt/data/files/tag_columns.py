"""One word and its tag per line: the files of XTREME's udpos and panx, and of WikiAnn."""

from __future__ import annotations

from xlt.data.files.part import Part
from xlt.data.files.text import read_lines
from xlt.data.rows import TagRow


def read_tag_columns(part: Part) -> list[TagRow]:
    """Reads word, tab, tag; a blank line ends a sentence. The id is the split and the number of the sentence.

    WikiAnn (https://github.com/afshinrahimi/mmner) writes the language and a colon before every word: they are taken
    off. A tag that the task does not have (MISC of other corpora, say) is refused: what it should be scored as is
    not for a reader to decide.

    Raises:
        FileFault: the file is broken, or a tag is unknown or withheld.
    """
    lines = read_lines(part.file)
    prefix = f"{part.language}:"
    if not all(line.startswith(prefix) for line in lines if line.strip()):
        prefix = ""
    rows: list[TagRow] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            word, tag = _word_and_tag(part, number, line)
            words.append(word.removeprefix(prefix))
            tags.append(tag)
        elif words:
            rows.append(TagRow(f"{part.split}-{len(rows) + 1}", tuple(words), tuple(tags)))
            words, tags = [], []
    return rows


def _word_and_tag(part: Part, number: int, line: str) -> tuple[str, str]:
    word, *rest = line.split("\t")
    if len(rest) > 1:
        raise part.file.fault(f"{len(rest) + 1} columns, expected 2: word and tag.", line=number)
    tag = rest[0].strip() if rest else ""
    if not tag:
        raise part.file.fault(
            f"the word '{word}' has no tag.",
            line=number,
            why="The test files that XTREME's download script writes hold no tags." if part.split == "test" else "",
            fix=f"Get the tagged release: {part.file.origin}",
        )
    if tag not in part.task.labels:
        raise part.unknown_label(tag, part.file, number)
    return word, tag
