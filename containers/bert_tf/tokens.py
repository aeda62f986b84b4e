"""Sentences as BERT's token ids: lower case, without accents, cut into the pieces of its vocabulary.

    python tokens.py model/1/assets.extra/vocab.txt < sentences.txt > requests/sentences.jsonl

A line of text becomes one instance: LENGTH ids. It needs nothing but Python, so any caller can use it.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

LENGTH = 48
"""Ids of a sentence: of the 10 605 that train.py reads, 96.4 % are no longer. The rest of a longer one is left out."""
PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
LONGEST_WORD = 100
CONTROL = ("Cc", "Cf", "Co")

IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


class Tokenizer:
    """The one of google-research/bert (tokenization.py), uncased."""

    def __init__(self, vocabulary: list[str]) -> None:
        self.ids = {piece: number for number, piece in enumerate(vocabulary)}

    @classmethod
    def read(cls, path: Path) -> Tokenizer:
        return cls(path.read_text(encoding="utf-8").splitlines())

    def instance(self, sentence: str, length: int = LENGTH) -> list[int]:
        pieces = [piece for word in words(sentence) for piece in self.pieces(word)][: length - 2]
        found = [self.ids[piece] for piece in (START, *pieces, END)]
        return found + [self.ids[PAD]] * (length - len(found))

    def pieces(self, word: str) -> list[str]:
        """The longest piece that the word begins with, then the same for the rest."""
        found: list[str] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self.ids), None)
            if end is None or len(word) > LONGEST_WORD:
                return [UNKNOWN]
            found.append(prefix + word[start:end])
            start = end
        return found


def words(sentence: str) -> Iterator[str]:
    """Between spaces; each punctuation mark and each ideograph is a word of its own."""
    word = ""
    for char in unicodedata.normalize("NFD", sentence):
        category = unicodedata.category(char)
        if char == "\ufffd" or (category in CONTROL and char not in "\t\n\r") or category == "Mn":
            continue
        alone = is_punctuation(char, category) or any(low <= ord(char) <= high for low, high in IDEOGRAPHS)
        if alone or char.isspace():
            if word:
                yield word
            word = ""
            if alone:
                yield char
        else:
            word += char.lower()
    if word:
        yield word


def is_punctuation(char: str, category: str) -> bool:
    """For BERT, all that ASCII has beside letters, digits and spaces."""
    return category.startswith("P") or (char.isascii() and char.isprintable() and not char.isalnum() and char != " ")


if __name__ == "__main__":
    tokenizer = Tokenizer.read(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(tokenizer.instance(line)))
