"""From clauses to sentences, by the grammar of each language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from artifact.world.generator.concept import NOUNS, RELATION, SHARED, Relation
from artifact.world.generator.english import WHERE, realise_english
from artifact.world.generator.language import LANGUAGES, Affix, Language, Side
from artifact.world.generator.lexicon import Lexicon, build_lexicon
from artifact.world.generator.script import SCRIPTS
from artifact.world.generator.sentence import Clause, Sentence, Word, noun_tag


def _affixed(stem: str, affix: str, where: Affix) -> str:
    match where:
        case "prefix":
            return affix + stem
        case "suffix":
            return stem + affix
        case _:
            return stem


def _beside(word: Word, head: Word, side: Side) -> list[Word]:
    return [word, head] if side == "before" else [head, word]


@dataclass(frozen=True, slots=True)
class Grammar:
    """The grammar of a constructed language with its words, of which some may be ``borrowed`` from English."""

    language: Language
    lexicon: Lexicon
    borrowed: frozenset[str] = frozenset()

    def _word(self, key: str) -> str:
        return key if key in self.borrowed else self.lexicon.words[key]

    def _noun(self, key: str, case: str) -> str:
        if key in SHARED or key in self.borrowed:
            return key
        return _affixed(self.lexicon.words[key], self.lexicon.cases[case], self.language.case)

    def _objects(self, relation: Relation, value: str) -> list[Word]:
        language = self.language
        match relation.frame:
            case "object":
                return [Word(self._noun(value, "accusative"), noun_tag(value), "value")]
            case "adposition":
                noun = Word(self._noun(value, "oblique"), noun_tag(value), "value")
                return _beside(Word(self._word(relation.adposition), "ADP"), noun, language.adposition)
            case "adjective":
                head = Word(self._noun(relation.head, "accusative"), "NOUN")
                return _beside(Word(self._word(value), "ADJ", "value"), head, language.adjective)
            case "numeral":
                head = Word(self._noun(relation.head, "accusative"), "NOUN")
                return _beside(Word(value, "NUM", "value"), head, language.adjective)

    def _asked_objects(self, relation: Relation) -> list[Word]:
        language = self.language
        match relation.frame:
            case "adposition" if relation.key == WHERE:
                return [Word(self._word("where"), "ADV")]
            case "adposition":
                adposition = Word(self._word(relation.adposition), "ADP")
                return _beside(adposition, Word(self._word("what"), "PRON"), language.adposition)
            case "adjective" | "numeral":
                head = Word(self._noun(relation.head, "accusative"), "NOUN")
                key, tag = ("which", "DET") if relation.frame == "adjective" else ("many", "ADJ")
                return _beside(Word(self._word(key), "DET" if tag == "DET" else "ADJ"), head, language.adjective)
            case _:
                return [Word(self._word("what"), "PRON")]

    def realise(self, clause: Clause) -> Sentence:
        """The sentence of ``clause``."""
        fact, language = clause.fact, self.language
        relation = RELATION[fact.relation]
        mood = language.mood if clause.asked and relation.key not in self.borrowed else "none"
        verb = _affixed(self._word(relation.key), self.lexicon.interrogative, mood)
        parts = {
            "S": [Word(fact.entity, "PROPN", "entity")],
            "V": [Word(verb, "VERB", "relation")],
            "O": self._objects(relation, fact.value),
        }
        order = str(language.order)
        if clause.asked:
            place = "S" if clause.asked == "entity" else "O"
            asker = Word(self._word("who"), "PRON")
            parts[place] = [asker] if place == "S" else self._asked_objects(relation)
            if language.fronts:
                order = place + order.replace(place, "")
        marks = SCRIPTS[language.script]
        mark = Word(marks.question if clause.asked else marks.stop, "PUNCT")
        opening = [Word(self._word(clause.connective), "ADV")] if clause.connective else []
        return Sentence((*opening, *(word for part in order for word in parts[part]), mark))


@cache
def _grammar(code: str, seed: int) -> Grammar:
    language = LANGUAGES[code]
    return Grammar(language, build_lexicon(language, seed))


@cache
def realise(clause: Clause, code: str, seed: int) -> Sentence:
    """The sentence of ``clause`` in the language ``code`` of the world of ``seed``."""
    return realise_english(clause) if code == "en" else _grammar(code, seed).realise(clause)


@cache
def _text(clause: Clause, code: str, seed: int) -> str:
    return realise(clause, code, seed).text


def text_of(clauses: Sequence[Clause], code: str, seed: int) -> str:
    """The sentences of ``clauses`` in one line."""
    return " ".join(_text(clause, code, seed) for clause in clauses)


def mixed_text_of(clauses: Sequence[Clause], code: str, seed: int, random: Random) -> str:
    """The sentences of ``clauses`` in one line, by a writer who borrows some words from English."""
    if code == "en":
        return text_of(clauses, code, seed)
    grammar = _grammar(code, seed)
    borrowed = frozenset(key for key in grammar.lexicon.words if random.random() < grammar.language.loans)
    mixed = replace(grammar, borrowed=borrowed)
    return " ".join(mixed.realise(clause).text for clause in clauses)


def lexicon_of(code: str, seed: int) -> dict[str, str]:
    """The English word for each word of the language, inflected ones too."""
    grammar = _grammar(code, seed)
    lexicon, language = grammar.lexicon, grammar.language
    found: dict[str, str] = {}
    for key, word in lexicon.words.items():
        nouns = [_affixed(word, affix, language.case) for affix in lexicon.cases.values()]
        asked = _affixed(word, lexicon.interrogative, language.mood)
        forms = nouns if key in NOUNS else [word, asked] if key in RELATION else [word]
        found |= {form: key for form in (word, *forms) if form not in found}
    return found


def list_of(keys: Sequence[str], code: str, seed: int) -> str:
    """The bare words of ``keys`` as a list."""
    words = keys if code == "en" else [_grammar(code, seed).lexicon.words[key] for key in keys]
    return ", ".join(words) + SCRIPTS[LANGUAGES[code].script].stop
