"""The tokenizer trained on the spot has XLM-R's layout; what cannot be loaded or trained is explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xlt.data.tokenizer import PROBES, load_tokenizer, train_tokenizer
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


def unlike_its_class(folder: Path, tokenizer_class: str) -> Tokenizer:
    """Write a tokenizer of XLM-R's layout to the folder that normalises and splits in a way of its own."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), (",", -3.0)]
    stored = Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3))
    stored.normalizer, stored.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    stored.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    stored.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir(exist_ok=True)
    stored.save(str(folder / "tokenizer.json"))
    tokens = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = {"tokenizer_class": tokenizer_class, **tokens, "mask_token": "<mask>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return stored


@pytest.mark.parametrize("layout", ["json", "json and SentencePiece"])
def test_tokenizer_json_is_followed_where_its_class_would_make_another_tokenizer(tmp_path: Path, layout: str) -> None:
    """As in the folder of multilingual-e5-small: the library's class for XLM-R would lose the normaliser."""
    folder = tmp_path / "published"
    if layout != "json":
        train_tokenizer(TEXTS, 60, folder, threads=1)
    stored = unlike_its_class(folder, "XLMRobertaTokenizerFast")
    text = "a，a "  # a full-width comma, and a space at the end
    expected = [0, 4, 5, 6, 5, 4, 2]
    assert stored.encode(text).ids == expected != AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer(text)["input_ids"] == expected
    assert tokenizer(text, text)["input_ids"] == stored.encode(text, text).ids
    # So is what is stored with a trained model.
    tokenizer.save_pretrained(str(tmp_path / "trained"))
    assert load_tokenizer(str(tmp_path / "trained"))(text)["input_ids"] == expected


@pytest.mark.parametrize("tokenizer_class", ["BertTokenizer", "RobertaTokenizer"])
def test_a_tokenizer_json_that_its_class_cannot_follow_is_a_data_error(tmp_path: Path, tokenizer_class: str) -> None:
    unlike_its_class(tmp_path, tokenizer_class)
    with pytest.raises(DataFault, match=r"another one than its tokenizer\.json says") as caught:
        load_tokenizer(str(tmp_path))
    assert PROBES[0] in caught.value.why
    assert tokenizer_class in caught.value.why
    assert "tokenizer_class" in caught.value.fix
