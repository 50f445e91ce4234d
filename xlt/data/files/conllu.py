"""Parts of speech from CoNLL-U treebanks, with the words that XTREME makes of them."""

from __future__ import annotations

from collections.abc import Iterator

from xlt.data.files.part import DataFile, Part
from xlt.data.files.text import read_lines
from xlt.data.rows import TagRow

# XTREME's German has no LIT: its largest published test set is smaller than all of German by exactly these sentences.
_NOT_IN_XTREME = ("de_lit-",)
_ID, _FORM, _TAG, _HEAD, _DEPS = 0, 1, 3, 6, 8
_COLUMNS = 10
_BLANKED = "_"
_ZERO_WIDTH_NON_JOINER = "\u200c"
# Which part names the tag of a fused word if several stand highest in the tree, as XTREME's converter ranks them.
_RANKS = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
_DEFAULT_RANKS = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"
_Line = tuple[int, list[str]]


def read_conllu(part: Part) -> list[TagRow]:
    """Reads all treebanks of a language (https://universaldependencies.org/format.html) by the rules of XTREME.

    These are the rules of https://github.com/google-research/xtreme (``utils_preprocess.py`` and
    ``third_party/ud-conversion-tools``): a multiword token is one word, with the tag of that of its parts which
    stands highest in the tree; empty nodes are left out, as are sentences whose words are blanked (``_``) but for
    one at most; white space at the edges of a word is removed, and spaces and zero-width non-joiners inside it. The id
    is the split and the number of the sentence, in the order of the file names.

    Raises:
        FileFault: a file is broken or a tag is unknown.
    """
    rows: list[TagRow] = []
    for file in part.files:
        if file.stem.startswith(_NOT_IN_XTREME):
            continue
        for sentence in _sentences(file):
            words, tags = _words(sentence, part, file)
            blanked = words.count(_BLANKED)
            if blanked == 0 or blanked < len(words) - 1:
                rows.append(TagRow(f"{part.split}-{len(rows) + 1}", words, tags))
    return rows


def _sentences(file: DataFile) -> Iterator[list[_Line]]:
    """The lines of each sentence, split into columns, with their numbers; without empty nodes."""
    sentence: list[_Line] = []
    for number, line in enumerate([*read_lines(file), ""], start=1):
        if not line.strip():
            if sentence:
                yield sentence
            sentence = []
        elif not line.startswith("#"):
            columns = line.split("\t")
            if len(columns) != _COLUMNS:
                raise file.fault(f"{len(columns)} columns, expected {_COLUMNS}.", line=number)
            if "." not in columns[_ID]:
                sentence.append((number, columns))


def _words(sentence: list[_Line], part: Part, file: DataFile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    nodes = {columns[_ID]: columns for _, columns in sentence if "-" not in columns[_ID]}
    ranks = _RANKS.get(part.language, _DEFAULT_RANKS).split()
    fused: set[str] = set()
    words: list[str] = []
    tags: list[str] = []
    for number, columns in sentence:
        if columns[_ID] in fused:
            continue
        head = columns
        if "-" in columns[_ID]:
            try:
                first, last = map(int, columns[_ID].split("-"))
                head = _head([nodes[str(each)] for each in range(first, last + 1)], nodes, ranks)
            except (ValueError, KeyError) as error:
                raise file.fault(f"the parts of '{columns[_ID]}' are not in the sentence.", line=number) from error
            fused.update(map(str, range(first, last + 1)))
        if head[_TAG] not in part.task.labels:
            raise part.unknown_label(head[_TAG], file, number)
        words.append(columns[_FORM].strip().replace(_ZERO_WIDTH_NON_JOINER, "").replace(" ", ""))
        tags.append(head[_TAG])
    return tuple(words), tuple(tags)


def _head(parts: list[list[str]], nodes: dict[str, list[str]], ranks: list[str]) -> list[str]:
    heights = [len(_above(part[_ID], nodes)) for part in parts]
    highest = [part for part, height in zip(parts, heights, strict=True) if height == min(heights)]
    return min(highest, key=lambda part: ranks.index(part[_TAG]) if part[_TAG] in ranks else len(ranks))


def _above(word: str, nodes: dict[str, list[str]]) -> set[str]:
    """All words above one, by the basic and the enhanced dependencies, which the converter both follows."""
    above: set[str] = set()
    waiting = [word]
    while waiting:
        columns = nodes.get(waiting.pop())
        if columns:
            enhanced = [dependency.partition(":")[0] for dependency in columns[_DEPS].split("|")]
            heads = {columns[_HEAD], *filter(str.isdecimal, enhanced)} - above
            above |= heads
            waiting.extend(heads)
    return above - {word}
