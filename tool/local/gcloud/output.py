"""What gcloud prints of a result: --flatten, --filter, --format."""

import fnmatch
import json
import re


class Unknown(Exception):
    """A --format or --filter that the stand-in does not know."""


def show(result, args) -> None:
    if isinstance(result, str):
        print(result)
        return
    if args.flatten:
        result = flattened(result if isinstance(result, list) else [result], args.flatten)
    if args.filter:
        result = [row for row in result if is_wanted(row, args.filter)]
    if args.sort_by:
        key = args.sort_by.removeprefix("~")
        down = key != args.sort_by
        result = sorted(result, key=lambda row: text(value(row, key)), reverse=down)
    wanted = args.format or "yaml"
    if wanted == "json":
        print(json.dumps(result, indent=2))
    elif match := re.fullmatch(r"(?:value|csv)(\[.*?\])?\((.*)\)", wanted, re.S):
        separator = re.search(r"separator=([\"'])(.*?)\1", match[1] or "")
        separator = separator[2] if separator else "," if wanted.startswith("csv") else "\t"
        keys = split(match[2], ",")
        if wanted.startswith("csv") and "no-heading" not in (match[1] or ""):
            print(",".join(key.rpartition(".")[2] for key in keys))
        for row in result if isinstance(result, list) else [result]:
            print(separator.join(text(value(row, key)) for key in keys))
    elif wanted == "yaml":
        rows = result if isinstance(result, list) else [result]
        print("\n---\n".join("\n".join(yaml(row)) for row in rows))
    elif match := re.fullmatch(r"table(?:\[.*?\])?\((.*)\)", wanted, re.S):
        keys = [re.sub(r":.*", "", key) for key in split(match[1], ",")]
        headings = [re.sub(r".*\.", "", key).upper() for key in keys]
        print(table(headings, [[text(value(row, key)) for key in keys] for row in result]))
    elif wanted not in ("none", "disable"):
        raise Unknown(f"the local stand-in does not know --format={wanted}")


def split(line: str, at: str) -> list[str]:
    """The parts between the separators that stand in no quotes and no brackets."""
    parts, depth, quote = [""], 0, ""
    for letter in line:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in "([") - (letter in ")]") if not quote else 0
        if letter == at and not quote and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def value(row, key: str):
    """What a key such as metadata.labels.made-by or status.conditions.map().extract("type") names."""
    mapped = False
    for part in split(key, "."):
        call = re.fullmatch(r"([a-z]+)\((.*)\)", part)
        if part == "map()":
            mapped = True
        elif call:
            words = [word.strip("\"'") for word in split(call[2], ",")]
            row = (
                [transform(call[1], words, one) for one in row or []]
                if mapped
                else transform(call[1], words, row)
            )
        else:
            row = inner(row, part.strip("\"'"))
    return row


def inner(row, part: str):
    name, _, index = part.partition("[")
    row = row.get(name) if isinstance(row, dict) else None
    if index.rstrip("]").isdigit():
        row = (
            row[int(index.rstrip("]"))]
            if isinstance(row, list) and len(row) > int(index.rstrip("]"))
            else None
        )
    return row


def transform(name: str, words: list[str], content):
    if name == "extract":
        return [inner(content, word) for word in words]
    if name == "basename":
        return str(content or "").rpartition("/")[2]
    if name == "segment":
        return str(content or "").split("/")[int(words[0])]
    if name in ("list", "join"):
        separator = (words[0].removeprefix("separator=").strip("\"'") if words[0] else "") or ","
        return separator.join(map(str, content or []))
    if name == "len":
        return len(content or [])
    raise Unknown(f"the local stand-in does not know {name}() in a --format")


def text(content) -> str:
    if content is None:
        return ""
    return ";".join(map(str, content)) if isinstance(content, list) else str(content)


def flattened(rows: list, path: str) -> list:
    """A row for each element of the lists at, for example, bindings[].members."""
    prefix = ""
    for part in path.split("[]"):
        prefix = f"{prefix}{part}"
        rows = [made for row in rows for made in spread(row, prefix.strip(".").split("."))]
    return rows


def spread(row, keys: list[str]) -> list:
    if not keys or keys == [""]:
        return row if isinstance(row, list) else [row]
    if not isinstance(row, dict) or keys[0] not in row:
        return [] if keys[1:] == [] else [row]
    return [{**row, keys[0]: one} for one in spread(row[keys[0]], keys[1:])]


def is_wanted(row, condition: str) -> bool:
    """key=value, key:value (with *, or as a part of the text), several with AND."""
    for term in re.split(r"\s+AND\s+", condition):
        match = re.fullmatch(r"(-|NOT )?([\w.\"/-]+)\s*(!=|=|:)\s*[\"']?(.*?)[\"']?", term.strip())
        if not match:
            raise Unknown(f"the local stand-in does not know --filter={condition}")
        found, wanted = text(value(row, match[2])).lower(), match[4].lower()
        fits = found == wanted if match[3] != ":" else fnmatch.fnmatch(found, f"*{wanted}*")
        if fits == bool(match[1]) if match[3] != "!=" else fits:
            return False
    return True


def yaml(content, indent: str = ""):
    """The lines of a dict or list as gcloud prints them: keys sorted, lists not indented."""
    if not isinstance(content, (dict, list)):
        yield f"{indent}{scalar(content)}"
        return
    for key in sorted(content) if isinstance(content, dict) else range(len(content)):
        one = content[key]
        start = f"{indent}{key}:" if isinstance(content, dict) else f"{indent}-"
        if isinstance(one, (dict, list)) and one:
            lines = list(yaml(one, indent + ("  " if isinstance(one, dict) else "")))
            if isinstance(content, list):
                yield f"{start} {lines[0].strip()}"
                lines = lines[1:]
            else:
                yield start
            yield from lines
        else:
            yield f"{start} {scalar(one)}"


def scalar(content) -> str:
    if content is None or isinstance(content, bool):
        return {None: "null", True: "true", False: "false"}[content]
    if isinstance(content, str) and (content.isdigit() or content.lower() in ("true", "false", "")):
        return f"'{content}'"
    return str(content)


def table(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    ]
    return "\n".join(lines)
