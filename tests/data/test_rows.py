"""Rows: the sentences of retrieval."""

from __future__ import annotations

from xlt.data.rows import BitextRow, MiningRow, PairRow, retrieval_texts


def test_the_sentences_of_retrieval_are_both_of_a_pair_or_the_one_of_a_corpus() -> None:
    assert retrieval_texts(BitextRow("1", "un", "one")) == ("un", "one")
    assert retrieval_texts(MiningRow("1", "un", english=False)) == ("un",)
    assert retrieval_texts(PairRow("1", "a", "b", "neutral")) == ()
