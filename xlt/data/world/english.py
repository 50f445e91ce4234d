"""The English grammar of the world: real words, articles, and questions with "does"."""

from __future__ import annotations

from xlt.data.world.concept import RELATION, Relation
from xlt.data.world.sentence import Clause, Sentence, Tag, Word

WHERE = "live"  # the relation whose value is asked for with an adverb instead of adposition and pronoun


def _objects(relation: Relation, value: str) -> list[Word]:
    match relation.frame:
        case "object":
            return [Word(value, "NOUN", "value")]
        case "adposition":
            tag: Tag = "PROPN" if value[0].isupper() else "NOUN"
            return [Word(relation.adposition, "ADP"), Word(value, tag, "value")]
        case "adjective":
            return [Word("a", "DET"), Word(value, "ADJ", "value"), Word(relation.head, "NOUN")]
        case "numeral":
            return [Word(value, "NUM", "value"), Word(relation.head, "NOUN")]


def _asked_objects(relation: Relation) -> tuple[list[Word], list[Word]]:
    """The words of the question phrase, and those left behind the verb."""
    match relation.frame:
        case "adposition" if relation.key == WHERE:
            return [Word("where", "ADV")], []
        case "adposition":
            return [Word("what", "PRON")], [Word(relation.adposition, "ADP")]
        case "adjective":
            return [Word("which", "DET"), Word(relation.head, "NOUN")], []
        case "numeral":
            return [Word("how", "ADV"), Word("many", "ADJ"), Word(relation.head, "NOUN")], []
        case _:
            return [Word("what", "PRON")], []


def realise_english(clause: Clause) -> Sentence:
    """The English sentence of ``clause``."""
    fact = clause.fact
    relation = RELATION[fact.relation]
    subject = Word(fact.entity, "PROPN", "entity")
    finite = Word(relation.key + "s", "VERB", "relation")
    if clause.asked == "value":
        front, rest = _asked_objects(relation)
        bare = Word(relation.key, "VERB", "relation")
        words = [*front, Word("does", "AUX"), subject, bare, *rest]
    elif clause.asked == "entity":
        words = [Word("who", "PRON"), finite, *_objects(relation, fact.value)]
    else:
        words = [subject, finite, *_objects(relation, fact.value)]
    return Sentence((*words, Word("?" if clause.asked else ".", "PUNCT")))
