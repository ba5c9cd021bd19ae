"""Prints a result as gcloud does, with --flatten, --filter, --sort-by and --format."""

import fnmatch
import json
import re
from collections.abc import Iterator, Sequence

from tool.local.records import Json, Record

COLUMNS = r"(value|csv(?:\[no-heading\])?|table(?:\[box\])?)\((.*)\)"
CALL = r"([a-z]+)\((.*)\)"
TERM = r"(-|NOT )?([\w.\"/-]+)\s*(!=|=|:)\s*[\"']?(.*?)[\"']?"


class Unknown(Exception):
    """A --format or --filter that the stand-in does not know."""


class Wish(Record):
    """What the flags say about the output."""

    format: str | None
    flatten: str | None
    filter: str | None
    sort_by: str | None


def show(result: Json, wish: Wish) -> None:
    """Prints a text unchanged; a dict, or a list of them, as the flags ask."""
    if isinstance(result, str):
        print(result)
        return
    if wish.flatten or wish.filter or wish.sort_by:
        result = selected(rows_of(result), wish)
    if columns := re.fullmatch(COLUMNS, wish.format or "", re.S):
        for line in in_columns(columns[1], parts(columns[2], ","), rows_of(result)):
            print(line)
    elif wish.format == "json":
        print(json.dumps(result, indent=2, sort_keys=True))
    elif wish.format in (None, "yaml"):
        print("\n---\n".join("\n".join(yaml(row)) for row in rows_of(result)))
    elif wish.format not in ("none", "disable"):
        raise Unknown(f"the local stand-in does not know --format={wish.format}")


def rows_of(result: Json) -> list[Json]:
    return result if isinstance(result, list) else [result]


def in_columns(kind: str, keys: Sequence[str], rows: Sequence[Json]) -> Iterator[str]:
    """The lines of --format=value(KEY,...), csv(KEY,...) or table(KEY:LABEL,...)."""
    if kind.startswith("table"):
        keys = [key.partition(":")[0] for key in keys]
    cells = [[text(value(row, key)) for key in keys] for row in rows]
    names = [key.rpartition(".")[2] for key in keys]
    if kind.startswith("table"):
        yield table([name.upper() for name in names], cells)
        return
    if kind == "csv":
        yield ",".join(names)
    yield from map(("\t" if kind == "value" else ",").join, cells)


# ---- keys, such as metadata.labels.made-by, bindings[0].members or name.basename()


def parts(line: str, at: str) -> list[str]:
    """The parts between separators that are outside quotes and brackets."""
    part = rf"""(?:"[^"]*"|'[^']*'|\([^()]*\)|\[[^\]]*\]|[^{at}])+"""
    return [found.strip() for found in re.findall(part, line)]


def value(row: Json, key: str) -> Json:
    """What the key names in a row; None if there is no such thing."""
    for step in parts(key, "."):
        call = re.fullmatch(CALL, step)
        row = called(row, call[1], call[2]) if call else inner(row, step)
    return row


def inner(row: Json, step: str) -> Json:
    name, _, index = step.strip("\"'").removesuffix("]").partition("[")
    found = row.get(name) if isinstance(row, dict) else None
    if not index.isdigit():
        return found
    return found[int(index)] if isinstance(found, list) and int(index) < len(found) else None


def called(content: Json, function: str, given: str) -> Json:
    words = [word.strip("\"'") for word in parts(given, ",")]
    if function == "basename":
        return str(content or "").rpartition("/")[2]
    if function == "segment":
        return str(content or "").split("/")[int(words[0])]
    if function in ("list", "join"):
        separator = words[0].removeprefix("separator=").strip("\"'") if words else ","
        return separator.join(map(str, content or []))
    if function == "len":
        return len(content or [])
    raise Unknown(f"the local stand-in does not know {function}() in a --format")


def timestamp(written: str) -> str:
    """A time in the format of Google's APIs."""
    return written.replace("+00:00", "Z")


def duration(written: str) -> int | None:
    """The seconds of 90, 90s, 1m30s or 1h; None if it is not a duration."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", written.lower())
    if not found or not any(found.groups()):
        return None
    return sum(int(n or 0) * of for n, of in zip(found.groups(), (86400, 3600, 60, 1), strict=True))


def text(content: Json) -> str:
    if content is None:
        return ""
    return ";".join(map(str, content)) if isinstance(content, list) else str(content)


# ---- which rows, in which order


def selected(rows: list[Json], wish: Wish) -> list[Json]:
    if wish.flatten:
        rows = flattened(rows, wish.flatten)
    if wish.filter:
        terms = [term_of(words) for words in re.split(r"\s+AND\s+", wish.filter)]
        rows = [row for row in rows if all(fits(row, term) for term in terms)]
    if wish.sort_by:
        key = wish.sort_by.removeprefix("~")
        rows = sorted(rows, key=lambda row: text(value(row, key)), reverse=key != wish.sort_by)
    return rows


def flattened(rows: list[Json], path: str) -> list[Json]:
    """A row for each element of the lists at, for example, bindings[].members."""
    names: list[str] = []
    for part in path.split("[]"):
        names += [name for name in part.split(".") if name]
        rows = [made for row in rows for made in spread(row, names)]
    return rows


def spread(row: Json, names: Sequence[str]) -> list[Json]:
    if not names:
        return rows_of(row)
    first, *rest = names
    if not isinstance(row, dict) or first not in row:
        return [row] if rest else []
    return [{**row, first: one} for one in spread(row[first], rest)]


class Term(Record):
    """One condition of a --filter: key=value, key!=value, or key:value, which may contain a *."""

    negated: bool
    key: str
    operator: str
    wanted: str


def term_of(words: str) -> Term:
    match = re.fullmatch(TERM, words.strip())
    if not match:
        raise Unknown(f"the local stand-in does not know --filter={words}")
    return Term(bool(match[1]) != (match[3] == "!="), match[2], match[3], match[4].lower())


def fits(row: Json, term: Term) -> bool:
    found = text(value(row, term.key)).lower()
    is_part = term.operator == ":" and fnmatch.fnmatch(found, f"*{term.wanted}*")
    return (found == term.wanted or is_part) != term.negated


# ---- as text for people


def yaml(content: Json, indent: str = "") -> Iterator[str]:
    """The lines of a dict or list as gcloud prints them: keys sorted, lists not indented."""
    if isinstance(content, dict):
        inside = [(f"{indent}{key}:", content[key]) for key in sorted(content)]
    elif isinstance(content, list):
        inside = [(f"{indent}-", one) for one in content]
    else:
        yield f"{indent}{scalar(content)}"
        return
    for start, one in inside:
        if not one or not isinstance(one, (dict, list)):
            yield f"{start} {scalar(one)}"
            continue
        first, *rest = yaml(one, f"{indent}  " if isinstance(one, dict) else indent)
        if isinstance(content, list):
            yield f"{start} {first.strip()}"
        else:
            yield start
            yield first
        yield from rest


def scalar(content: Json) -> str:
    if content is None or isinstance(content, bool):
        return json.dumps(content)
    if isinstance(content, str) and (content.isdigit() or content.lower() in ("true", "false", "")):
        return f"'{content}'"
    return str(content)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, *rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(headings))]
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in lines)
    return "\n".join("  ".join(row).rstrip() for row in padded)
