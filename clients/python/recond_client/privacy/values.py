"""What a value may be to stay in a header: anything else might be a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,10}")
_NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]{1,10}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?|[+-]?INF|NaN"
)
_BETWEEN_WORDS: Final = re.compile(r"[\s,;]+")
_COIL_SEPARATORS: Final = re.compile(r"[\s:_./()+-]+")
_SHORT_CODE: Final = re.compile(r"[A-Za-z]{1,3}[0-9]{0,3}|[A-Za-z]{0,2}[0-9]{1,3}[A-Za-z]?")
_COIL_WORD: Final = re.compile(r"([A-Za-z]+?)s?[0-9]{0,3}")
_LONGEST_TEXT: Final = 256
_LONGEST_NUMBER: Final = 3
_MOST_COIL_WORDS: Final = 5


class Values(Protocol):
    """Which values stay."""

    def keep(self, text: str) -> str | None:
        """Return what stays of a value, None if nothing does."""
        ...

    @property
    def said(self) -> str:
        """What stays, for people."""
        ...


@dataclass(frozen=True)
class Whole:
    """Whole numbers of at most ten digits, rounded if there is a step."""

    step: int = 1

    def keep(self, text: str) -> str | None:
        """Return what stays of a value, None if nothing does."""
        if not _WHOLE.fullmatch(text):
            return None
        return text if self.step == 1 else str((int(text) + self.step // 2) // self.step * self.step)

    @property
    def said(self) -> str:
        """What stays, for people."""
        return "whole numbers" if self.step == 1 else f"whole numbers, rounded to {self.step:,}"


@dataclass(frozen=True)
class Number:
    """Numbers, as XML Schema writes them."""

    def keep(self, text: str) -> str | None:
        """Return what stays of a value, None if nothing does."""
        return text if _NUMBER.fullmatch(text) else None

    @property
    def said(self) -> str:
        """What stays, for people."""
        return "numbers"


@dataclass(frozen=True)
class Choice:
    """One of some words, in upper or lower case; `otherwise` takes the place of others, if it is not empty."""

    words: tuple[str, ...]
    otherwise: str = ""

    def keep(self, text: str) -> str | None:
        """Return what stays of a value, None if nothing does."""
        if text.lower() in {word.lower() for word in self.words}:
            return text
        return self.otherwise or None

    @property
    def said(self) -> str:
        """What stays, for people."""
        return f"one of {len(self.words)} words" + (f", `{self.otherwise}` for others" if self.otherwise else "")


@dataclass(frozen=True)
class Words:
    """The words of a vocabulary out of free text, and numbers of at most three digits beside them."""

    vocabulary: frozenset[str]
    called: str

    def keep(self, text: str) -> str | None:
        """Return what stays of a value, None if nothing does."""
        words = _BETWEEN_WORDS.split(text[:_LONGEST_TEXT].strip())
        known = [word for word in words if word.lower() in self.vocabulary]
        if not known:
            return None
        kept = [
            word
            for word in words
            if word.lower() in self.vocabulary or (word.isdecimal() and len(word) <= _LONGEST_NUMBER)
        ]
        return text if len(kept) == len(words) and len(text) <= _LONGEST_TEXT else " ".join(kept)

    @property
    def said(self) -> str:
        """What stays, for people."""
        return f"known {self.called}"


@dataclass(frozen=True)
class CoilName:
    """Names of coil elements such as ``HeadNeck_20:1:H11``: known words, short codes and numbers."""

    vocabulary: frozenset[str]

    def keep(self, text: str) -> str | None:
        """Return what stays of a value, None if nothing does."""
        words = [word for word in _COIL_SEPARATORS.split(text[:_LONGEST_TEXT]) if word]
        if len(words) > _MOST_COIL_WORDS or len(text) > _LONGEST_TEXT:
            return None
        for word in words:
            named = _COIL_WORD.fullmatch(word)
            known = named is not None and (named[1].lower() in self.vocabulary or word.lower() in self.vocabulary)
            if not known and not _SHORT_CODE.fullmatch(word):
                return None
        return text

    @property
    def said(self) -> str:
        """What stays, for people."""
        return "known words, codes of three letters and numbers"
