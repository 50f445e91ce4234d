"""The sentence splitter."""

from __future__ import annotations

import pytest

from xlt.data.files.pretraining import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rains.  Who\ncares? Me!", ["It rains.", "Who cares?", "Me!"]),
        ('He said "Stop." She ran (fast!) Then left.', ['He said "Stop."', "She ran (fast!)", "Then left."]),
        (
            "Dr. Smith of the U.S. Army paid 3.5 dollars, etc. and left.",
            ["Dr. Smith of the U.S. Army paid 3.5 dollars, etc. and left."],
        ),
        ("Do it. Then go... Or (in 1998.) stay.", ["Do it.", "Then go...", "Or (in 1998.) stay."]),
        ("Really?! he asked.", ["Really?! he asked."]),
        ("你好。他说：「走吧！」然后走了", ["你好。", "他说：「走吧！」", "然后走了"]),
        ("वह आया।वह गया। क्या?", ["वह आया।", "वह गया।", "क्या?"]),
        ("یہ ایک بات ہے۔ کیا ہوا؟ ہاں", ["یہ ایک بات ہے۔", "کیا ہوا؟", "ہاں"]),
        ("Τι είναι αυτό\u037e Ναι.", ["Τι είναι αυτό\u037e", "Ναι."]),
        ("ฉันไป เธอมา", ["ฉันไป เธอมา"]),
        ("Это дом. Он большой.", ["Это дом.", "Он большой."]),
        ("  ", []),
    ],
)
def test_sentences_of_several_scripts(text, sentences):
    assert split_sentences(text) == sentences
