"""Reads files of requirements, however an editor, PowerShell or git wrote them."""

import codecs
import pathlib


def text_of(file: pathlib.Path) -> str:
    """The text with line ends of this system; bytes that are no text are kept."""
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")
