"""The tokenizer trained on the spot has XLM-R's layout; what cannot be loaded or trained is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import DataFault

TEXTS = [f"the cat number {n} sat on the mat {n * 7} times" for n in range(200)]


def test_the_special_tokens_are_those_of_xlm_r(tmp_path: Path) -> None:
    train_tokenizer(TEXTS, 60, tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2, 3]
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    assert tokenizer("the cat")["input_ids"][0] == 0
    pair = tokenizer("the cat", "the mat")["input_ids"]
    assert pair.count(2) == 3


def test_the_same_text_gives_the_same_tokenizer(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_tokenizer(TEXTS, 60, tmp_path / name)
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (tmp_path / "two" / "tokenizer.json").read_bytes()


def test_no_text_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="No SentencePiece"):
        train_tokenizer([], 60, tmp_path)


def test_a_folder_without_a_tokenizer_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="has no tokenizer"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("template", ["", "$A </s>", "<s> $A"])
def test_a_tokenizer_without_a_first_and_a_last_token_is_a_data_error(tmp_path: Path, template: str) -> None:
    words = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "unk_token": "<unk>"}
    if template:
        words.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", 0), ("</s>", 2)])
        names |= {"cls_token": "<s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(str(tmp_path))
    with pytest.raises(DataFault, match="does not put a first and a last token"):
        load_tokenizer(str(tmp_path))
