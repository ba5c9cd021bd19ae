"""Reads requirements files, however an editor, PowerShell or git wrote them."""

import codecs
import pathlib


def text_of(file: pathlib.Path) -> str:
    """The text, with the line ends of this system; keeps bytes that are not text."""
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")
