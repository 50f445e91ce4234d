"""Print what each perturbation does to a sentence in scripts of all kinds, as a table: seconds.

    python -m artifact.documents.perturbations [SEVERITY]

The sentences are the project's own: «The small cat sleeps in the old house by the river», and «It rained all day». A
dash says that nothing changed: the script has no place for the noise. Code-mixing knows the words of ``LEXICON`` here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from xlt.data.perturb import KINDS, Perturbation, Perturber
from xlt.data.rows import BitextRow, SpanRow

SENTENCES = {
    "Latin (fr)": "Le petit chat dort dans la vieille maison près de la rivière.",
    "Cyrillic (ru)": "Маленький кот спит в старом доме у тихой реки.",
    "Arabic (ar)": "تنامُ القطةُ الصغيرةُ في البيتِ القديمِ بجانبِ النهر.",
    "Devanagari (hi)": "छोटी बिल्ली नदी के पास पुराने घर में सो रही है।",
    "Han (zh)": "小猫睡在河边的老房子里。",
    "Thai (th)": "แมวตัวเล็กนอนหลับอยู่ในบ้านเก่าริมแม่น้ำ",
}
OTHERS = (
    *("Il a plu toute la journée.", "Весь день шёл дождь.", "أمطرت طوال اليوم."),
    *("पूरे दिन बारिश हुई।", "下了一整天的雨。", "ฝนตกทั้งวัน"),
)
LEXICON = {"chat": "cat", "maison": "house", "кот": "cat", "доме": "house", "القطةُ": "cat", "البيتِ": "house"}
LEXICON |= {"बिल्ली": "cat", "घर": "house", "猫": "cat", "河": "river"}


def lines(severity: float) -> Iterator[str]:
    """The rows of the table, in Markdown: a sentence of each script for each kind, at this severity."""
    yield "| kind | " + " | ".join(SENTENCES) + " |"
    yield "|---" * (len(SENTENCES) + 1) + "|"
    yield "| (clean) | " + " | ".join(SENTENCES.values()) + " |"
    for kind in KINDS:
        shown = (_perturbed(kind, severity, *each) for each in zip(SENTENCES.values(), OTHERS, strict=True))
        yield f"| {kind} | " + " | ".join(shown) + " |"


def _perturbed(kind: str, severity: float, sentence: str, other: str) -> str:
    whole = kind == "distraction"
    perturbation = Perturbation(kind, 1.0 if whole else severity)
    perturber = Perturber(perturbation, LEXICON, [other])
    (found,) = perturber.rows([SpanRow("", "", sentence, ()) if whole else BitextRow("", sentence, "")])
    text = found.context if isinstance(found, SpanRow) else found.foreign if isinstance(found, BitextRow) else ""
    return "–" if text == sentence else text


if __name__ == "__main__":
    print("\n".join(lines(float(sys.argv[1]) if len(sys.argv) > 1 else 0.5)))
