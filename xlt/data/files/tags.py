"""Words and their tags: columns, CoNLL-U treebanks, and CCG supertags in lines or in CCGbank's derivations."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xlt.data.files.reading import DataFile, SplitFiles, read_lines
from xlt.data.rows import TagRow

# CoNLL-U (https://universaldependencies.org/format.html): ten columns, of which these count.
# The release of Universal Dependencies, and where it is another one: of the languages that XTREME-R added.
TREEBANKS = "2.5"
TREEBANKS_OF = dict.fromkeys(("lt", "pl", "ro", "uk", "wo"), "2.7")
_COLUMNS = 10
_ID, _FORM, _TAG, _HEAD, _DEPS = 0, 1, 3, 6, 8
_BLANKED = "_"
_ZERO_WIDTH_NON_JOINER = "\u200c"
# XTREME's German has no LIT: its largest published test set is smaller than all of German by exactly these sentences.
_NOT_IN_XTREME = ("de_lit-",)
# The part that gives a multiword token its tag if several are equally high in the tree, as XTREME's converter ranks
# them.
_RANKS = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
_DEFAULT_RANKS = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"
# CCGbank: a leaf holds category (the supertag), two parts of speech, word, and category with indices.
_LEAF_BEGIN = "(<L "
_LEAF = re.compile(r"\(<L (?P<tag>[^ ]+) [^ ]+ [^ ]+ (?P<word>[^ ]+) [^ ]+>\)")
_ID_LINE = re.compile(r"ID=([^ ]+)")
_Line = tuple[int, list[str]]
Tagged = tuple[tuple[str, ...], tuple[str, ...]]


def read_tags(split: SplitFiles) -> Iterator[TagRow]:
    """Reads treebanks (``.conllu``) or columns. The id is the split and the number of the sentence."""
    sentences = _treebanks(split) if _has_ending(split, ".conllu") else _columns(split)
    for number, (words, tags) in enumerate(sentences, start=1):
        yield TagRow(f"{split.split}-{number}", words, tags)


def read_ccg(split: SplitFiles) -> Iterator[TagRow]:
    """Reads the derivations of CCGbank (``.auto``), with its ids, or lines of words and supertags."""
    if _has_ending(split, ".auto"):
        return (row for file in split.files for row in _derivations(file))
    return _tag_lines(split)


def _has_ending(split: SplitFiles, ending: str) -> bool:
    return split.file.shown.removesuffix(".gz").endswith(ending)


def _columns(split: SplitFiles) -> Iterator[Tagged]:
    """Word, tab, tag on each line, and a blank line after a sentence: XTREME's udpos and panx, and WikiAnn.

    A tag that the task does not have (MISC of other corpora, say) is refused: what it should be scored as is not for a
    reader to decide.
    """
    lines = read_lines(split.file)
    # WikiAnn (https://github.com/afshinrahimi/mmner) writes the language and a colon before every word.
    prefix = f"{split.language}:"
    if not all(line.startswith(prefix) for line in lines if line.strip()):
        prefix = ""
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            word, tag = _word_and_tag(split, number, line)
            words.append(word.removeprefix(prefix))
            tags.append(tag)
        elif words:
            yield tuple(words), tuple(tags)
            words, tags = [], []


def _word_and_tag(split: SplitFiles, number: int, line: str) -> tuple[str, str]:
    word, *rest = line.split("\t")
    if len(rest) > 1:
        raise split.file.fault(f"{len(rest) + 1} columns, expected 2: word and tag.", line=number)
    tag = rest[0].strip() if rest else ""
    if not tag:
        raise split.file.fault(
            f"the word '{word}' has no tag.",
            line=number,
            why="The test files that XTREME's download script writes hold no tags." if split.split == "test" else "",
            fix=f"Get the tagged release: {split.file.origin}",
        )
    return word, split.label(tag, split.file, number)


def _treebanks(split: SplitFiles) -> Iterator[Tagged]:
    """The sentences of all treebanks of a language, in the order of the file names, by the rules of XTREME.

    These are the rules of https://github.com/google-research/xtreme (``utils_preprocess.py`` and
    ``third_party/ud-conversion-tools``). A multiword token is one word and takes the tag of the part that is highest
    in the tree. Empty nodes are left out, and sentences in which all words but at most one are blanked (``_``). White
    space at the edges of a word is removed, as are spaces and zero-width non-joiners inside it.
    """
    for file in split.files:
        if file.stem.startswith(_NOT_IN_XTREME):
            continue
        for sentence in _sentences(file):
            words, tags = _written_words(sentence, split, file)
            blanked = words.count(_BLANKED)
            if blanked == 0 or blanked < len(words) - 1:
                yield words, tags


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


def _written_words(sentence: list[_Line], split: SplitFiles, file: DataFile) -> Tagged:
    nodes = {columns[_ID]: columns for _, columns in sentence if "-" not in columns[_ID]}
    ranks = _RANKS.get(split.language, _DEFAULT_RANKS).split()
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
        words.append(columns[_FORM].strip().replace(_ZERO_WIDTH_NON_JOINER, "").replace(" ", ""))
        tags.append(split.label(head[_TAG], file, number))
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


def _tag_lines(split: SplitFiles) -> Iterator[TagRow]:
    """The words of a sentence, a tab, and as many supertags on each line; the id is the split and the line number."""
    for number, line in enumerate(read_lines(split.file), start=1):
        if not line.strip():
            continue
        # Split at spaces alone: a no-break space is a letter of its word.
        words, *rest = ([each for each in column.split(" ") if each] for column in line.split("\t"))
        if len(rest) != 1 or len(words) != len(rest[0]):
            found = " and ".join(str(len(column)) for column in (words, *rest))
            raise split.file.fault(
                f"the columns have {found} words; expected two columns with equally many.",
                line=number,
                why="A line holds the words of a sentence, a tab, and a tag for each word.",
            )
        yield TagRow(f"{split.split}-{number}", tuple(words), tuple(rest[0]))


def _derivations(file: DataFile) -> Iterator[TagRow]:
    r"""The sentences of a file of CCGbank (LDC2005T13, ``data/AUTO/<section>/wsj_<nnnn>.auto``).

    Each sentence has two lines: ``ID=wsj_0001.1 PARSER=GOLD NUMPARSE=1`` and a bracketed tree. Only the leaves of the
    tree count: ``(<L category tag tag word category>)``.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(file), start=1) if line.strip()]
    if len(lines) % 2:
        raise file.fault("the last sentence has no derivation: the file is probably truncated.", line=lines[-1][0])
    for (number, header), (below, tree) in zip(lines[::2], lines[1::2], strict=True):
        name = _ID_LINE.match(header)
        if not name:
            raise file.fault("expected a line that begins with 'ID='.", line=number)
        leaves = list(_LEAF.finditer(tree))
        if not leaves or len(leaves) != tree.count(_LEAF_BEGIN):
            raise file.fault(f"only {len(leaves)} of {tree.count(_LEAF_BEGIN)} leaves have all six fields.", line=below)
        # Back-slashes guard "/" and "*" in words.
        words = tuple(leaf["word"].replace("\\", "") for leaf in leaves)
        yield TagRow(name[1], words, tuple(leaf["tag"] for leaf in leaves))
