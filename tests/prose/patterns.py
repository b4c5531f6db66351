"""The words and constructs that plain technical English leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# A noun phrase that begins with "what" hides its subject. "What is it?" is a question and passes.
_END_OF_QUESTION: Final = re.compile(r"[^.!?;]*\?")

_ANYWHERE: Final = {
    "whoever": r"who(?:m)?ever",
    # "In whatever order" passes: its noun follows.
    "whatever": r"whatever (?:that|it|they|is|are|was|were|has|had|comes?|came|becomes?|became|holds?|there)",
    "nobody": r"nobody",
    "somebody": r"somebody",
    "anybody": r"anybody",
    "everybody": r"everybody",
    "anew": r"anew",
    "by the word of": r"by (?:the|its|his) word of|takes? \w+ at (?:its|his|their) word",
    "that which": r"that which",
    "those who": r"those who",
    "as many as": r"as many as",
    "so often": r"so often",
    "it is they who": r"it is (?:they|he|she|we) who",
    "of those": (
        r"of those(?= (?:who|that|which|whose|it|they|he|in|with|of|there|still|already|is|are|was|were|have|has)\b"
        r"|[,.;:)]|$)"
    ),
    "hence": r"hence",
}
_OUTSIDE_OF_QUESTIONS: Final = {
    "what is": r"what (?:is|are|was|were|isn't|comes?|came|follows?|has|have|had)",
    "is there": r"(?:is|are|was|were) there",
}
_COMPILED: Final = {
    name: re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE)
    for name, pattern in (_ANYWHERE | _OUTSIDE_OF_QUESTIONS).items()
}


def find(text: str) -> Iterator[tuple[str, int]]:
    """Yield the name of each pattern in `text` and the offset where it matches."""
    for name, pattern in _COMPILED.items():
        for match in pattern.finditer(text):
            if name in _OUTSIDE_OF_QUESTIONS and _END_OF_QUESTION.match(text, match.end()):
                continue
            yield name, match.start()
