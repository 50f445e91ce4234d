"""From rows to sequences of token ids, one function per kind of task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import numpy.typing as npt
from transformers import BatchEncoding, PreTrainedTokenizerBase

from xlt.data.encodings import kept
from xlt.data.packing import Encoded
from xlt.data.rows import ChoiceRow, PairRow, Row, SpanRow, TagRow, is_trainable, texts
from xlt.errors import DataFault
from xlt.tasks.record import Kind, Recipe, Task

LONGEST_QUESTION = 64
Encoder = Callable[[Sequence[Row], Task, PreTrainedTokenizerBase, bool], list[Encoded]]


def encode(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, *, training: bool) -> list[Encoded]:
    """Token ids of every row, in the order of the rows; ``training`` adds the labels.

    Training leaves out rows that teach nothing (see ``is_trainable``). A row gives one item, with three exceptions: in
    span QA a long context gives several overlapping windows; in tagging a long sentence is split between words, and one
    without words gives no item; a pair of translations gives two.

    Raises:
        DataFault: a training row has a tag that is not a label of the task, or retrieval is to be trained.
    """

    def make() -> list[Encoded]:
        chosen = [row for row in rows if is_trainable(row)] if training else rows
        return _ENCODERS[task.kind](chosen, task, tokenizer, training) if chosen else []

    recipe = task.recipe
    decided_by = str(replace(task, recipe=Recipe())), str((recipe.max_length, recipe.stride, training))
    return kept(make, rows, [row.id for row in rows], tokenizer, *decided_by)


def encode_texts(
    ids: Sequence[str], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Encoded]:
    """One truncated sequence per text."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return [Encoded(id_, _int32(tokens)) for id_, tokens in zip(ids, encoded, strict=True)]


def _encode_pairs(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool) -> list[Encoded]:
    pairs = [row for row in rows if isinstance(row, PairRow)]
    encoded = tokenizer(
        [row.text_a for row in pairs],
        [row.text_b for row in pairs],
        truncation=True,
        max_length=task.recipe.max_length,
    )["input_ids"]
    classes = {label: index for index, label in enumerate(task.labels)}
    return [
        Encoded(row.id, _int32(tokens), (classes[row.label],) if training else ())
        for row, tokens in zip(pairs, encoded, strict=True)
    ]


def _encode_choices(
    rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool
) -> list[Encoded]:
    """Pairs of prompt and choice; one that is too long loses the end of its prompt, then the end of the choice."""
    questions = [row for row in rows if isinstance(row, ChoiceRow)]
    encoded = tokenizer(
        [row.prompt for row in questions for _ in row.choices],
        [choice for row in questions for choice in row.choices],
        verbose=False,
    )
    sequences = [_int32(tokens) for tokens in encoded["input_ids"]]
    for index, tokens in enumerate(sequences):
        if len(tokens) > task.recipe.max_length:
            parts = np.array(encoded.sequence_ids(index), dtype=object)
            # The tokens to drop: those of the prompt from its end, then those of the choice from its end.
            order = np.concatenate([np.flatnonzero(parts == side)[::-1] for side in (0, 1)])
            sequences[index] = np.delete(tokens, order[: len(tokens) - task.recipe.max_length])
    pairs = iter(sequences)
    result = []
    for row in questions:
        mine = [next(pairs) for _ in row.choices]
        lengths = tuple(len(tokens) for tokens in mine)
        label = (row.label,) if training else ()
        result.append(Encoded(row.id, np.concatenate(mine), label, lengths=lengths))
    return result


def _encode_tags(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool) -> list[Encoded]:
    """Words as XTREME's script encodes them: a word without a token becomes the unknown token.

    A word that alone exceeds ``max_length`` keeps its first tokens.
    """
    sentences = [row for row in rows if isinstance(row, TagRow)]
    encoded = tokenizer(
        [list(row.words) for row in sentences], is_split_into_words=True, add_special_tokens=False, verbose=False
    )
    classes = {label: index for index, label in enumerate(task.labels)}
    room = task.recipe.max_length - 2
    sequences = []
    for index, row in enumerate(sentences):
        tokens, sizes = _tokens_of_words(
            _int32(encoded["input_ids"][index]),
            np.array(encoded.word_ids(index), dtype=np.int64),
            len(row.words),
            # A tokenizer of bytes may have none: an empty word is then the end of a text.
            tokenizer.sep_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id,
            room,
        )
        label = _tag_classes(row, classes, task) if training else ()
        ends = np.cumsum([0, *sizes])
        first = 0
        while first < len(sizes):
            last = int(np.searchsorted(ends, ends[first] + room, side="right")) - 1
            piece = tokens[ends[first] : ends[last]]
            sequences.append(
                Encoded(
                    row.id,
                    np.concatenate([[tokenizer.cls_token_id], piece, [tokenizer.sep_token_id]]).astype(np.int32),
                    label[first:last],
                    words=(ends[first:last] - ends[first] + 1).astype(np.int32),
                )
            )
            first = last
    return sequences


def _tokens_of_words(
    tokens: npt.NDArray[np.int32], owners: npt.NDArray[np.int64], words: int, unknown: int, longest: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """``tokens`` cut or filled to 1 to ``longest`` per word, and their number per word; ``owners`` are their words."""
    # Without a loop over words: a treebank has millions of them.
    sizes = np.bincount(owners, minlength=words)
    starts = np.cumsum(sizes) - sizes
    kept = np.arange(len(tokens)) - starts[owners] < longest
    silent = np.flatnonzero(sizes == 0)
    if len(silent) or not kept.all():
        places = np.searchsorted(owners[kept], silent)
        tokens = np.insert(tokens[kept], places, unknown)
    return tokens, np.clip(sizes, 1, longest)


def _tag_classes(row: TagRow, classes: dict[str, int], task: Task) -> tuple[int, ...]:
    try:
        return tuple(classes[tag] for tag in row.tags)
    except KeyError as error:
        raise DataFault(
            f"Row '{row.id}' of '{task.key}' has the tag {error}, which is not a label of the task.",
            why=f"It has {len(classes)} labels: {', '.join(task.labels[:20])}{' …' if len(classes) > 20 else ''}.",
            fix="Correct the training file, or give the task that label.",
        ) from error


def _encode_spans(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool) -> list[Encoded]:
    """Windows over question and context with a stride, as in the original SQuAD fine-tuning of BERT.

    In training the label of a window without the answer is its first token, as for questions without an answer
    (SQuAD v2.0 only). A question keeps its first 64 tokens at most, as in XTREME's script.
    """
    spans = [row for row in rows if isinstance(row, SpanRow)]
    if training and not task.unanswerable:
        spans = [row for row in spans if row.answers]
    max_length = task.recipe.max_length
    encoded = tokenizer(
        _shortened([row.question.strip() for row in spans], tokenizer, min(LONGEST_QUESTION, max_length // 3)),
        [row.context for row in spans],
        truncation="only_second",
        max_length=max_length,
        stride=min(task.recipe.stride, max_length // 3),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    sequences = []
    windows = range(len(encoded["input_ids"]))
    for index, mine in groupby(windows, key=encoded["overflow_to_sample_mapping"].__getitem__):
        row, places = spans[index], {window: _places(encoded, window) for window in mine}
        covered = _covered(row.context, places.values())
        ends = _ends(row.context, covered)
        for window, offsets in places.items():
            label = _span_label(row, offsets, covered) if training else ()
            tokens = offsets[:, 0] < offsets[:, 1]
            offsets[tokens, 1] = ends[offsets[tokens, 1]]
            sequences.append(Encoded(row.id, _int32(encoded["input_ids"][window]), label, offsets))
    return sequences


def _places(encoded: BatchEncoding, window: int) -> npt.NDArray[np.int32]:
    """The characters of the context that each token of a window covers; -1 outside the context."""
    in_context = np.array([part == 1 for part in encoded.sequence_ids(window)])
    offsets = np.array(encoded["offset_mapping"][window], dtype=np.int32)
    offsets[~in_context] = -1
    return offsets


def _covered(context: str, windows: Iterable[npt.NDArray[np.int32]]) -> npt.NDArray[np.bool_]:
    """Whether a token of any window covers each character of the context."""
    # +1 where a token begins and -1 where it ends: the running sum says how many tokens cover a character.
    changes = np.zeros(len(context) + 1, dtype=np.int64)
    for offsets in windows:
        inside = offsets[offsets[:, 0] >= 0]
        np.add.at(changes, inside[:, 0], 1)
        np.add.at(changes, inside[:, 1], -1)
    return np.cumsum(changes[:-1]) > 0


def _ends(context: str, covered: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Where the text of a token that ends at each place ends: after the invisible characters that follow it.

    A tokenizer drops some characters of a word (zero-width spaces, marks that it joins with their letter), and an
    answer may end with them. They belong to the token before them if no token covers them and no white space is
    between. Before the first token of a word (a byte order mark) they belong to no token: so more answers of XQuAD and
    MLQA can be predicted exactly than if that token had them.
    """
    stops = np.append(covered, True)
    stops[[place for place in np.flatnonzero(~covered) if context[place].isspace()]] = True
    # From each place the next stop: the running minimum of the stops' places, from the right.
    places = np.where(stops, np.arange(len(stops)), len(context))
    return np.minimum.accumulate(places[::-1])[::-1]


def _shortened(texts: list[str], tokenizer: PreTrainedTokenizerBase, tokens: int) -> list[str]:
    """Each text as far as its first ``tokens`` tokens reach."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [
        text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]
        for text, offsets in zip(texts, encoded, strict=True)
    ]


def _span_label(row: SpanRow, offsets: npt.NDArray[np.int32], covered: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """The first and last token of the answer, without what no token covers at its edges."""
    if not row.answers:
        return (0, 0)
    start = row.answers[0].start
    # An answer may begin or end with characters that the tokenizer drops: its label is what can be predicted.
    visible = start + np.flatnonzero(covered[start : start + len(row.answers[0].text)])
    window = offsets[offsets[:, 0] >= 0]
    if not len(visible) or not len(window) or visible[0] < window[0, 0] or visible[-1] >= window[-1, 1]:
        return (0, 0)
    tokens = np.flatnonzero((offsets[:, 0] <= visible[-1]) & (offsets[:, 1] > visible[0]) & (offsets[:, 0] >= 0))
    return (int(tokens[0]), int(tokens[-1]))


def _encode_each_text(
    rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool
) -> list[Encoded]:
    if training and task.kind == "retrieval":
        raise DataFault(f"'{task.key}' has no training data: retrieval uses the encoder as it is.")
    every = [(row.id, text) for row in rows for text in texts(row)]
    return encode_texts([id_ for id_, _ in every], [text for _, text in every], tokenizer, task.recipe.max_length)


def _int32(tokens: Sequence[int]) -> npt.NDArray[np.int32]:
    return np.asarray(tokens, dtype=np.int32)


_ENCODERS: dict[Kind, Encoder] = {
    "pair_classification": _encode_pairs,
    "multiple_choice": _encode_choices,
    "tagging": _encode_tags,
    "span_qa": _encode_spans,
    "masked_lm": _encode_each_text,
    "retrieval": _encode_each_text,
}
