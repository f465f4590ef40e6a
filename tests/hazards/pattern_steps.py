"""Regular expressions, matched by plain backtracking, every look at a character counted: what Python's own engine would do, or more.

It reads the tree that `re` itself makes of a pattern, so it can be held against `re` on any text; it knows what our patterns use.
"""

import re
import re._constants as codes  # type: ignore[import-not-found]  # private: a test fails loudly where it moves
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from typing import Any

Node = tuple[Any, Any]
_CATEGORIES = {
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
}


class CountedPattern:
    """One pattern. `steps` counts on over all calls. A pattern of bytes is matched against text of code points below 256."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
        self.tree: list[Node] = list(parser.parse(source, pattern.flags & (re.IGNORECASE | re.MULTILINE | re.DOTALL)))
        self.ignores_case = bool(pattern.flags & re.IGNORECASE)
        self.steps = 0

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where it matches, as `finditer` and `sub` go through a text: from every place, but not within a match."""
        found: list[tuple[int, int]] = []
        at = 0
        while at <= len(text):
            end = next(self._ends(self.tree, 0, text, at), None)
            if end is None or end == at:
                at += 1
            else:
                found.append((at, end))
                at = end
        return found

    def matches_all(self, text: str) -> bool:
        """As `fullmatch`: from the beginning, every end tried until one is that of the text."""
        return any(end == len(text) for end in self._ends(self.tree, 0, text, 0))

    def _ends(self, items: list[Node], place: int, text: str, at: int) -> Iterator[int]:
        """Every end of a match of `items[place:]` that begins at `at`, in the order in which backtracking finds them."""
        if place == len(items):
            yield at
            return
        for middle in self._one(items[place], text, at):
            yield from self._ends(items, place + 1, text, middle)

    def _one(self, node: Node, text: str, at: int) -> Iterator[int]:
        self.steps += 1
        op, argument = node
        if op is codes.SUBPATTERN:
            yield from self._ends(list(argument[3]), 0, text, at)
        elif op is codes.BRANCH:
            for branch in argument[1]:
                yield from self._ends(list(branch), 0, text, at)
        elif op is codes.MAX_REPEAT:
            yield from self._repeat(argument[0], argument[1], list(argument[2]), text, at)
        elif op is codes.AT:
            if self._stands(argument, text, at):
                yield at
        elif op in (codes.ASSERT, codes.ASSERT_NOT):
            direction, items = argument
            start = at - len(items) if direction < 0 else at
            holds = start >= 0 and next(self._ends(list(items), 0, text, start), None) is not None
            if holds is (op is codes.ASSERT):
                yield at
        elif at < len(text) and self.is_in(node, text[at]):
            yield at + 1

    def _repeat(self, least: int, most: int, items: list[Node], text: str, at: int) -> Iterator[int]:
        """The most first, then ever fewer."""
        if len(items) == 1 and items[0][0] in (codes.IN, codes.LITERAL, codes.NOT_LITERAL, codes.ANY):
            end = at
            while end < len(text) and end - at < most and self.is_in(items[0], text[end]):
                self.steps += 1
                end += 1
            for place in range(end, at + least - 1, -1):
                self.steps += 1
                yield place
            return
        if most > 0:
            for middle in self._ends(items, 0, text, at):
                if middle > at:
                    yield from self._repeat(max(0, least - 1), most - 1, items, text, middle)
        if least == 0:
            yield at

    def is_in(self, node: Node, character: str) -> bool:
        """Whether one character is what a node for one character asks for."""
        op, argument = node
        if self.ignores_case:
            return any(self._is_in(op, argument, each) for each in {character, character.lower(), character.upper()})
        return self._is_in(op, argument, character)

    def _is_in(self, op: Any, argument: Any, character: str) -> bool:
        if op is codes.LITERAL:
            return character == chr(argument)
        if op is codes.NOT_LITERAL:
            return character != chr(argument)
        if op is codes.ANY:
            return character != "\n"
        if op is codes.RANGE:
            return chr(argument[0]) <= character <= chr(argument[1])
        if op is codes.CATEGORY:
            return _CATEGORIES[argument](character)
        if op is not codes.IN:
            raise TypeError(f"no test counts the steps of {op}")
        negated = argument[0][0] is codes.NEGATE
        return negated is not any(self._is_in(each, what, character) for each, what in argument[negated:])

    @staticmethod
    def _stands(where: Any, text: str, at: int) -> bool:
        if where is codes.AT_BEGINNING_STRING:
            return at == 0
        if where is codes.AT_END_STRING:
            return at == len(text)
        if where is not codes.AT_BOUNDARY:
            raise TypeError(f"no test counts the steps of {where}")
        is_word = _CATEGORIES[codes.CATEGORY_WORD]
        return (at > 0 and is_word(text[at - 1])) is not (at < len(text) and is_word(text[at]))


def characters_of(pattern: CountedPattern) -> list[str]:
    """Characters of which the pattern thinks differently: one of each sort, and one that it has nowhere."""
    singles = list(_singles(pattern.tree))
    sorts: dict[tuple[bool, ...], str] = {}
    for character in sorted(_named(singles) | set("aZ0_- .,;:=\"'`\n\x00é")):
        sorts.setdefault((*(pattern.is_in(node, character) for node in singles), character.isalnum() or character == "_"), character)
    return list(sorts.values())


def beginnings_of(pattern: CountedPattern) -> list[str]:
    """Texts that a match may begin with: of the first and of the last of several branches, cut behind every item."""
    texts: dict[str, None] = {"": None}
    for branch in (0, -1):
        texts.update(dict.fromkeys(_samples(pattern, pattern.tree, branch)))
    return list(texts)


def _samples(pattern: CountedPattern, items: list[Node], branch: int) -> list[str]:
    beginnings = [""]
    for op, argument in items:
        inner: list[str] = [""]
        if op is codes.SUBPATTERN:
            inner = _samples(pattern, list(argument[3]), branch)
        elif op is codes.BRANCH:
            inner = _samples(pattern, list(argument[1][branch]), branch)
        elif op is codes.MAX_REPEAT:
            once = _samples(pattern, list(argument[2]), branch)
            inner = [*once, once[-1] * max(argument[0], 1)]
        elif op in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN):
            named = sorted(_named([(op, argument)]) | set("a0_- x"))
            inner = [next(character for character in named if pattern.is_in((op, argument), character))]
        beginnings += [beginnings[-1] + each for each in inner if each]
    return beginnings


def _singles(items: list[Node]) -> Iterator[Node]:
    for op, argument in items:
        if op is codes.SUBPATTERN:
            yield from _singles(list(argument[3]))
        elif op is codes.BRANCH:
            for branch in argument[1]:
                yield from _singles(list(branch))
        elif op is codes.MAX_REPEAT:
            yield from _singles(list(argument[2]))
        elif op in (codes.ASSERT, codes.ASSERT_NOT):
            yield from _singles(list(argument[1]))
        elif op is not codes.AT:
            yield op, argument


def _named(singles: list[Node]) -> set[str]:
    named: set[str] = set()
    for op, argument in singles:
        for each, what in argument if op is codes.IN else [(op, argument)]:
            if each in (codes.LITERAL, codes.NOT_LITERAL):
                named.add(chr(what))
            elif each is codes.RANGE:
                named |= {chr(what[0]), chr(what[1])}
    return named
