"""Predictions of models with known scores, and of a small real one."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.packing import PackedBatch
from xlt.data.predictions import Prediction
from xlt.data.rows import Answer, ChoiceRow, PairRow, SpanRow, TagRow
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.metrics import score
from xlt.evaluate.predict import RepeatedPrediction, predict
from xlt.model.encoder import PackedModel
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task

RNG = random.Random(0)
VOCABULARY = 200
WORDS = ["".join(RNG.choices("abcdefgh", k=RNG.randint(2, 7))) for _ in range(150)]


def _text(words: int) -> str:
    return " ".join(RNG.choices(WORDS, k=words))


def _short(key: str) -> Task:
    task = get_task(key)
    return replace(task, recipe=replace(task.recipe, max_length=48, stride=16))


XNLI, XQUAD = _short("xnli"), _short("xquad")
PAIRS = [PairRow(f"p{i}", _text(RNG.randint(1, 15)), _text(5), "neutral") for i in range(40)]


def _span_row(index: int) -> SpanRow:
    words = RNG.choices(WORDS, k=RNG.randint(5, 120))
    place = RNG.randrange(len(words))
    start = len(" ".join([*words[:place], ""])) if place else 0
    return SpanRow(f"q{index}", _text(4), " ".join(words), (Answer(words[place], start),))


SPANS = [_span_row(i) for i in range(25)]
UDPOS, SWAG, SQUAD_V2 = _short("udpos"), _short("hellaswag"), _short("squad_v2")
SENTENCES = [
    TagRow(f"s{i}", (*RNG.choices(WORDS, k=n), ""), ("X",) * (n + 1)) for i, n in enumerate([0, 3, 90, 12, 40, 1])
]
QUESTIONS = [
    ChoiceRow(f"c{i}", _text(RNG.randint(1, 60)), tuple(_text(4) for _ in range(2 + i % 3)), 0) for i in range(20)
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([_text(12) for _ in range(300)], 190, folder, threads=1)
    return load_tokenizer(str(folder))


class _Scripted(nn.Module):
    """Scores that depend on each sequence's own tokens alone, and what it was asked."""

    first_position = 2

    def __init__(self, kind: str, labels: int, table: Tensor) -> None:
        super().__init__()
        head: Any = nn.Module()
        head.kind, head.labels, head.names = kind, labels, ()
        self.heads = nn.ModuleDict(dict.fromkeys(("mnli", "squad", "squad_v2", "hellaswag", "udpos"), head))
        self.table = table
        self.batches: list[PackedBatch] = []
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        self.batches.append(batch)
        self.modes.append((self.training, torch.is_inference_mode_enabled()))
        tokens = self.table[batch.input_ids]
        if batch.kind == "span_qa":
            return tokens.new_tensor(float("nan")), tokens
        if batch.kind == "tagging":
            return tokens.new_tensor(float("nan")), tokens[batch.scored_positions]
        bounds = batch.cu_seqlens.tolist()
        sums = [tokens[a:b].sum(dim=0) for a, b in pairwise(bounds)]
        scores = torch.stack(sums)
        return tokens.new_tensor(float("nan")), scores[:, 0] if batch.kind == "multiple_choice" else scores


def _scripted(kind: str, width: int) -> Any:
    labels = 0 if kind == "span_qa" else width
    # Whole numbers add up to the same in any order.
    table = torch.from_numpy(np.random.default_rng(0).integers(-9, 9, (VOCABULARY, width)).astype(np.float32))
    return _Scripted(kind, labels, table)


def _predict(
    model: Any,
    rows: Any,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int = 300,
    **options: Any,
) -> list[Prediction]:
    return predict(cast(PackedModel, model), rows, task, tokenizer, max_tokens=max_tokens, device="cpu", **options)


def test_pairs_keep_the_order_of_the_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _scripted("pair_classification", 3)
    given = _predict(model, PAIRS, XNLI, tokenizer)
    assert [prediction.id for prediction in given] == [row.id for row in PAIRS]
    for row, prediction in zip(PAIRS, given, strict=True):
        ids = tokenizer(row.text_a, row.text_b, truncation=True, max_length=48)["input_ids"]
        logits = model.table[torch.tensor(ids)].sum(dim=0)
        assert prediction.prediction == XNLI.labels[int(logits.argmax())]
        assert prediction.score == pytest.approx(float(logits.softmax(dim=0).max()), rel=1e-5)
    assert len(model.batches) > 2
    assert all(batch.tokens <= 300 and batch.labels is None for batch in model.batches)
    assert model.batches[0].max_seqlen >= model.batches[-1].max_seqlen
    assert {batch.task for batch in model.batches} == {"mnli"}


def test_the_first_of_equal_labels_is_predicted(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _Scripted("pair_classification", 3, torch.zeros(VOCABULARY, 3))
    given = _predict(model, PAIRS[:2], XNLI, tokenizer)
    assert [(prediction.prediction, prediction.score) for prediction in given] == [("entailment", 0.333333)] * 2


def test_spans_are_the_best_over_all_windows(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _scripted("span_qa", 2)
    given = _predict(model, SPANS, XQUAD, tokenizer)
    assert [prediction.id for prediction in given] == [row.id for row in SPANS]
    windows = encode(SPANS, XQUAD, tokenizer, training=False)
    assert len(windows) > 2 * len(SPANS)
    for row, prediction in zip(SPANS, given, strict=True):
        best, span = -np.inf, (0, 0)
        for window in windows:
            if window.example_id != row.id or window.offsets is None:
                continue
            logits = model.table[torch.from_numpy(window.input_ids).long()].numpy()
            context = [i for i, (start, _) in enumerate(window.offsets) if start >= 0]
            for start, end in ((s, e) for s in context for e in context if s <= e < s + 30):
                if logits[start, 0] + logits[end, 1] > best:
                    best = logits[start, 0] + logits[end, 1]
                    span = (int(window.offsets[start, 0]), int(window.offsets[end, 1]))
        assert (prediction.prediction, prediction.score) == (span, best)
    score(XQUAD, SPANS, given)


@pytest.mark.parametrize("kind", ["pair_classification", "span_qa"])
def test_rows_that_are_predicted_again_and_again_are_encoded_and_packed_once(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    task, rows = (XNLI, PAIRS) if kind == "pair_classification" else (XQUAD, SPANS)
    first, second = _scripted(kind, 3 if rows is PAIRS else 2), _scripted(kind, 3 if rows is PAIRS else 2)
    second.table = -first.table  # as the same model after more steps
    expected = [_predict(model, rows, task, tokenizer) for model in (first, second)]
    again = RepeatedPrediction(rows, task, tokenizer, max_tokens=300)
    assert [again.predict(first, "cpu")] == expected[:1]
    monkeypatch.setattr("xlt.evaluate.predict.pack", lambda *_, **__: pytest.fail("packed again"))
    monkeypatch.setattr("xlt.evaluate.predict.encode", lambda *_, **__: pytest.fail("encoded again"))
    assert [again.predict(second, "cpu"), again.predict(first, "cpu")] == [expected[1], expected[0]]
    assert expected[0] != expected[1]


def test_the_next_group_is_computed_when_one_is_read(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = _scripted("pair_classification", 3), list[int]()
    monkeypatch.setattr("xlt.evaluate.predict.check_finite", lambda *_: read.append(len(model.batches)))
    _predict(model, PAIRS, XNLI, tokenizer, max_tokens=100)
    count = len(model.batches)
    assert count > 5
    assert read == [*range(2, count + 1), count]


def test_batches_do_not_change_predictions(tokenizer: PreTrainedTokenizerBase) -> None:
    small, large = (_predict(_scripted("span_qa", 2), SPANS, XQUAD, tokenizer, size) for size in (1, 10**6))
    assert small == large


def test_the_right_answer_is_found_by_a_model_that_points_at_it(tokenizer: PreTrainedTokenizerBase) -> None:
    word = next(word for word in WORDS if len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1)
    (piece,) = tokenizer(word, add_special_tokens=False)["input_ids"]
    others = [other for other in WORDS if piece not in tokenizer(other)["input_ids"]]
    context = " ".join([*others[:70], word, *others[70:100]])
    row = SpanRow("q", others[0], context, (Answer(word, len(" ".join(others[:70])) + 1),))
    table = torch.zeros(VOCABULARY, 2)
    table[piece] = 5
    (given,) = _predict(_Scripted("span_qa", 0, table), [row], XQUAD, tokenizer)
    first, last = cast(tuple[int, int], given.prediction)
    assert context[first:last] == word
    assert score(XQUAD, [row], [given]) == {"exact_match": 100.0, "f1": 100.0}


def test_a_question_has_no_answer_where_the_first_token_scores_higher(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _scripted("span_qa", 2)
    best = {given.id: given for given in _predict(model, SPANS, XQUAD, tokenizer)}
    # Half of the questions have a best span below the null score, which is the same in every window here.
    null = sorted(given.score for given in best.values())[len(best) // 2]
    model.table[tokenizer.cls_token_id] = null / 2
    given = _predict(model, SPANS, SQUAD_V2, tokenizer)
    empty = [each for each in given if each.prediction == (0, 0)]
    assert 0 < len(empty) < len(given)
    for each in given:
        expected = best[each.id] if best[each.id].score >= null else Prediction(each.id, (0, 0), null)
        assert each == expected
    score(SQUAD_V2, SPANS, given)


def test_every_word_of_a_split_sentence_is_tagged_in_order(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _scripted("tagging", len(UDPOS.labels))
    given = _predict(model, SENTENCES, UDPOS, tokenizer)
    assert [each.id for each in given] == [row.id for row in SENTENCES]
    assert len(encode(SENTENCES, UDPOS, tokenizer, training=False)) >= len(SENTENCES) + 2
    for row, each in zip(SENTENCES, given, strict=True):
        pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in row.words]
        logits = model.table[torch.tensor([tokens[0] if tokens else tokenizer.unk_token_id for tokens in pieces])]
        assert each.prediction == " ".join(UDPOS.labels[int(best)] for best in logits.argmax(dim=1))
        assert each.score == pytest.approx(float(logits.softmax(dim=1).amax(dim=1).mean()), rel=1e-5)
    assert set(score(UDPOS, SENTENCES, given)) == {"f1", "precision", "recall", "accuracy"}
    assert _predict(model, SENTENCES, UDPOS, tokenizer, 1) == given


def test_a_sentence_without_words_has_no_tags(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [TagRow("empty", (), ()), SENTENCES[1]]
    given = _predict(_scripted("tagging", len(UDPOS.labels)), rows, UDPOS, tokenizer)
    assert (given[0].prediction, given[0].score) == ("", 0.0)
    score(UDPOS, rows, given)


def test_the_best_choice_is_among_the_choices_of_its_own_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _scripted("multiple_choice", 1)
    model.table /= 20  # probabilities that are not all 1
    given = _predict(model, QUESTIONS, SWAG, tokenizer)
    assert [each.id for each in given] == [row.id for row in QUESTIONS]
    for row, each in zip(QUESTIONS, given, strict=True):
        pairs = [tokenizer(row.prompt, c, truncation="only_first", max_length=48)["input_ids"] for c in row.choices]
        logits = torch.stack([model.table[torch.tensor(pair)].sum() for pair in pairs])
        assert each.prediction == str(int(logits.argmax()))
        assert each.score == pytest.approx(float(logits.softmax(dim=0).max()), rel=1e-4)
    assert {each.prediction for each in given} >= {"0", "1", "2"}
    assert len(model.batches) > 2


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(tokenizer: PreTrainedTokenizerBase, training: bool) -> None:
    model = _scripted("pair_classification", 3).train(training)
    _predict(model, PAIRS[:3], XNLI, tokenizer)
    assert set(model.modes) == {(False, True)}
    assert model.training is training
    model.table[:] = float("nan")
    with pytest.raises(DataFault, match="scores for 'xnli' are not finite"):
        _predict(model, PAIRS[:3], XNLI, tokenizer)
    assert model.training is training
    assert not torch.is_inference_mode_enabled()


def test_refusals(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _scripted("pair_classification", 3)
    with pytest.raises(UsageFault, match=r"'tatoeba' \(retrieval\) has no predictions of this kind"):
        _predict(model, [], get_task("tatoeba"), tokenizer)
    with pytest.raises(DataFault, match="1 rows of 'xnli' share an id with another row"):
        _predict(model, [PAIRS[0], PAIRS[0]], XNLI, tokenizer)
    with pytest.raises(UsageFault, match=r"no head 'xnli' for 'xnli' \(.*\nIts heads: mnli \(pair_class"):
        _predict(model, PAIRS, XNLI, tokenizer, head="xnli")
    with pytest.raises(UsageFault, match=r"no head 'squad' for 'xquad' \(span_qa\)"):
        _predict(model, SPANS, XQUAD, tokenizer)
    with pytest.raises(UsageFault, match=r"other labels than 'xnli' has.\nIt has 2: not stored. The task has 3"):
        _predict(_scripted("pair_classification", 2), PAIRS, XNLI, tokenizer)
    assert _predict(model, [], XNLI, tokenizer) == []


def test_labels_are_those_that_the_head_was_trained_with(tokenizer: PreTrainedTokenizerBase) -> None:
    """Of CCG labels come from training data: what lies there at evaluation may be other data."""
    ccg = replace(get_task("ccg"), recipe=XNLI.recipe)
    model = _scripted("tagging", 3)
    model.heads = nn.ModuleDict({"ccg": model.heads["udpos"]})
    model.heads["ccg"].names = ("N", "S", "NP/N")
    first = _predict(model, SENTENCES, ccg, tokenizer)
    assert {tag for each in first for tag in str(each.prediction).split()} == {"N", "S", "NP/N"}
    model.heads["ccg"].names = ("a", "b", "c")
    renamed = dict(zip(("N", "S", "NP/N"), "abc", strict=True))
    assert [str(each.prediction) for each in _predict(model, SENTENCES, ccg, tokenizer)] == [
        " ".join(renamed[tag] for tag in str(each.prediction).split()) for each in first
    ]


def test_labels_in_another_order_keep_their_scores(tokenizer: PreTrainedTokenizerBase) -> None:
    model = _scripted("pair_classification", 3)
    as_the_task = _predict(model, PAIRS, XNLI, tokenizer)
    model.heads["mnli"].names = tuple(reversed(XNLI.labels))
    opposite = dict(zip(XNLI.labels, reversed(XNLI.labels), strict=True))
    turned = [each.prediction for each in _predict(model, PAIRS, XNLI, tokenizer)]
    assert turned == [opposite[str(each.prediction)] for each in as_the_task]
    model.heads["mnli"].names = ("yes", "no", "maybe")
    with pytest.raises(UsageFault, match=r"It has 3: yes, no, maybe\. The task has 3: entailment, neutral, contradict"):
        _predict(model, PAIRS, XNLI, tokenizer)


def test_a_small_model_from_rows_to_metrics(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PackedModel.fresh(
        {
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
    )
    accuracy, span, entity = {"accuracy"}, {"exact_match", "f1"}, {"accuracy", "f1", "precision", "recall"}
    cases: list[tuple[Task, list[Any], set[str]]] = [
        *((XNLI, PAIRS, accuracy), (SWAG, QUESTIONS, accuracy), (UDPOS, SENTENCES, entity)),
        *((XQUAD, SPANS, span), (SQUAD_V2, SPANS, span)),
    ]
    for task, _, _ in cases:
        model.add_head(task.trains_on or "", task.kind, len(task.labels))
    model.train()
    for task, rows, metrics in cases:
        given = _predict(model, rows, task, tokenizer)
        assert set(score(task, rows, given)) == metrics
        # Other batches add in another order: the scores agree closely, not to the bit.
        for tokens in (1, 10**6):
            again = _predict(model, rows, task, tokenizer, tokens)
            assert [p.score for p in given] == pytest.approx([p.score for p in again], abs=1e-4)
        assert model.training
