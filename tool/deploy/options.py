"""What was typed: a verb, names, options."""

from __future__ import annotations

import enum
import pathlib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Form(enum.Enum):
    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"


class Options(NamedTuple):
    verb: str
    names: tuple[str, ...] = ()
    local: bool = False
    project: str = ""
    region: str = ""
    app: str = ""  # as it was typed; "": the folder of deploy.sh
    public: bool = False
    dry_run: bool = False
    as_everyone: bool = False
    form: Form = Form.TEXT
    watch: bool = False
    propagation: int | None = None  # seconds
    quiet: bool = False
    delete_data: bool = False
    check: bool = False
    prefix: str = ""

    @property
    def name(self) -> str:
        return self.names[0] if self.names else ""
