"""Prints any text, as far as the terminal can show it.

deploy.sh and the local target run with -X utf8, so that a path is the same text in every locale, and
programs that read what it prints get UTF-8. Only for a terminal, its locale decides the encoding.
"""

import codecs
from io import TextIOWrapper


def as_it_can_be_printed(error: UnicodeError) -> tuple[str | bytes, int]:
    """Keeps bytes of a path that are not text; prints a "?" for what this terminal cannot show."""
    assert isinstance(error, UnicodeEncodeError)
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("replace")(error)


def prepare(*streams: TextIOWrapper) -> None:
    """Makes these streams print any text."""
    codecs.register_error("printable", as_it_can_be_printed)
    for stream in streams:
        before = stream.encoding
        if stream.isatty():
            stream.reconfigure(encoding="locale")
        if codecs.lookup(stream.encoding).name == "ascii":  # the C locale, which says nothing about the terminal
            stream.reconfigure(encoding=before)
        stream.reconfigure(errors="printable")
