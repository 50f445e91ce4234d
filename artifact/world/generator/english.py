"""The English grammar of the world: real words, articles, and questions with "does", each word with its category."""

from __future__ import annotations

from artifact.world.generator.concept import RELATION, Relation
from artifact.world.generator.sentence import Clause, Sentence, Tag, Word, noun_tag

WHERE = "live"  # the relation whose value is asked for with an adverb instead of adposition and pronoun


def _other(form: str, tag: Tag, category: str) -> Word:
    return Word(form, tag, "other", category)


def _objects(relation: Relation, value: str) -> list[Word]:
    noun = Word(value, noun_tag(value), "value", "NP")
    match relation.frame:
        case "object":
            return [noun]
        case "adposition":
            return [_other(relation.adposition, "ADP", "PP/NP"), noun]
        case "adjective":
            head = _other(relation.head, "NOUN", "N")
            return [_other("a", "DET", "NP/N"), Word(value, "ADJ", "value", "N/N"), head]
        case "numeral":
            return [Word(value, "NUM", "value", "NP/N"), _other(relation.head, "NOUN", "N")]


def _asked_objects(relation: Relation, *, fronted: bool) -> tuple[list[Word], list[Word]]:
    """The words of the question phrase, and those that stay behind the verb."""

    def phrase(category: str) -> str:
        return f"S[wq]/(S[q]/{category})" if fronted else category

    determiner = f"({phrase('NP')})/N" if fronted else "NP/N"
    head = _other(relation.head, "NOUN", "N")
    match relation.frame:
        case "adposition" if relation.key == WHERE:
            return [_other("where", "ADV", phrase("PP"))], []
        case "adposition":
            return [_other("what", "PRON", phrase("NP"))], [_other(relation.adposition, "ADP", "PP/NP")]
        case "adjective":
            return [_other("which", "DET", determiner), head], []
        case "numeral":
            how = _other("how", "ADV", f"({determiner})/(NP/N)")
            return [how, _other("many", "ADJ", "NP/N"), head], []
        case _:
            return [_other("what", "PRON", phrase("NP"))], []


def realise_english(clause: Clause) -> Sentence:
    """The English sentence of ``clause``.

    Rephrased, the question after the value leaves the question phrase in the place of the answer, and the one after
    the entity says "which person" for "who".
    """
    fact = clause.fact
    relation = RELATION[fact.relation]
    takes = "PP" if relation.frame == "adposition" else "NP"
    subject = Word(fact.entity, "PROPN", "entity", "NP")
    finite = Word(relation.key + "s", "VERB", "relation", f"(S[dcl]\\NP)/{takes}")
    if clause.asked == "value":
        asker, rest = _asked_objects(relation, fronted=not clause.rephrased)
        does = _other("does", "AUX", "(S[q]/(S[b]\\NP))/NP")
        bare = Word(relation.key, "VERB", "relation", f"(S[b]\\NP)/{takes}")
        words = [subject, finite, *rest, *asker] if clause.rephrased else [*asker, does, subject, bare, *rest]
    elif clause.asked == "entity":
        who = [_other("who", "PRON", "S[wq]/(S[dcl]\\NP)")]
        if clause.rephrased:
            who = [_other("which", "DET", "(S[wq]/(S[dcl]\\NP))/N"), _other("person", "NOUN", "N")]
        words = [*who, finite, *_objects(relation, fact.value)]
    else:
        words = [subject, finite, *_objects(relation, fact.value)]
    if clause.connective:
        words.insert(0, _other(clause.connective, "ADV", "S/S"))
    return Sentence((*words, _other("?" if clause.asked else ".", "PUNCT", ".")))
