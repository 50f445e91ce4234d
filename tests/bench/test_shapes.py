from collections import Counter
from pathlib import Path

import pytest
import torch

from xlt.bench import shapes
from xlt.bench.shapes import (
    Lengths,
    fitting_lengths,
    forward_flop,
    fresh_model,
    measure_lengths,
    measured_lengths,
    random_sequences,
    sample_lengths,
)
from xlt.errors import EnvironmentFault, UsageFault
from xlt.model.backbone import new_backbone
from xlt.pipeline.sources import SourceOptions, open_source


def test_lengths_are_drawn_like_the_measured_ones_and_the_same_each_time() -> None:
    counts = measured_lengths().tasks["mnli"]
    mean = sum(length * count for length, count in counts.items()) / sum(counts.values())
    drawn = sample_lengths("mnli", 4000)
    assert drawn == sample_lengths("mnli", 4000)
    assert set(drawn) <= set(counts)
    # The standard error of the mean of 4000 lengths of at most 128 is under 1 token.
    assert sum(drawn) / len(drawn) == pytest.approx(mean, abs=3)


def test_a_task_without_lengths_is_refused() -> None:
    with pytest.raises(UsageFault, match="udpos"):
        sample_lengths("udpos", 1)


def test_random_sequences_begin_and_end_as_xlm_r_has_it() -> None:
    sequences = random_sequences("mnli", 50, "small")
    assert {int(each.input_ids[0]) for each in sequences} == {0}
    assert {int(each.input_ids[-1]) for each in sequences} == {2}
    assert Counter(each.label for each in sequences)[0,] == 17


def test_the_small_model_computes_and_the_large_one_has_xlm_r_larges_sizes() -> None:
    model = fresh_model("small")
    assert model.packed
    assert model.lm_head is not None
    with torch.device("meta"):
        large = new_backbone(shapes.CONFIGS["large"])
    parameters = sum(each.numel() for each in large.encoder.parameters())
    # As counted from the shapes of 24 blocks and the embeddings; the pooling layer is not part of it.
    assert parameters == pytest.approx(558.84e6, rel=1e-3)


def test_all_sequences_of_a_source_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MEASURED", ("mnli", "hellaswag", "bucc2018"))
    found = measure_lengths(open_source(SourceOptions(limit=40)), 400)
    assert isinstance(found, Lengths)
    assert set(found.tasks) == {"mnli", "hellaswag", "bucc2018"}
    assert all(min(counts) > 2 for counts in found.tasks.values())


@pytest.mark.parametrize("text", [None, "{", '{"format": 1}'])
def test_missing_or_damaged_lengths_are_named(
    text: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "measured").mkdir()
        (tmp_path / "measured" / "lengths.json").write_text(text, encoding="utf-8")
    monkeypatch.setenv("XLT_ARTIFACT", str(tmp_path))
    measured_lengths.cache_clear()
    with pytest.raises(EnvironmentFault, match=r"lengths\.json"):
        measured_lengths()
    measured_lengths.cache_clear()


def test_lengths_fill_the_tokens_and_are_those_of_random_sequences() -> None:
    lengths = fitting_lengths("squad", 5000)
    assert 5000 - 384 < sum(lengths) <= 5000
    assert [len(each.input_ids) for each in random_sequences("squad", len(lengths), "small")] == lengths


def test_flop_are_those_counted_from_the_shapes() -> None:
    # Twice 302 M linear weights a token, and 24 blocks of 4 x 128 x 1024 for attention: 0.617 GFLOP a token.
    assert forward_flop(shapes.CONFIGS["large"], [128]) / 128 == pytest.approx(0.617e9, rel=1e-3)
    assert forward_flop(shapes.CONFIGS["large"], [128], 6) == forward_flop(shapes.CONFIGS["large"], [128]) / 4
