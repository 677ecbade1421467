"""Text that came from outside, as characters that tokenizers and files take."""

from __future__ import annotations

import re


def whole_characters(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes.

    A command line read in an ASCII locale holds such halves for bytes that are not ASCII: those become the characters
    that the bytes are in UTF-8. Any other half becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        kept = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
        return kept.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text
