"""Values of flags that Cloud Run is known to refuse, named before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tool.deploy.app import Function

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# The memory that instances of so many CPUs may have; below 1: https://docs.cloud.google.com/run/docs/configuring/services/cpu
MEMORY = {"1": ("128Mi", "4Gi"), "2": ("512Mi", "8Gi"), "4": ("2Gi", "16Gi"), "6": ("4Gi", "24Gi"), "8": ("4Gi", "32Gi")}
INGRESS = ("all", "internal", "internal-and-cloud-load-balancing")
LOOKED_AT = ("memory", "cpu", "concurrency", "max-instances", "min-instances", "timeout", "ingress")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def wrong(function: Function) -> Iterator[str]:
    """What is certainly wrong with a function's flags; `default` is a value that gcloud knows."""
    if any("$" in function.flag(name, "") for name in LOOKED_AT):  # no value yet, see `expanded`
        return
    memory, cpu = function.flag("memory", "512Mi"), function.flag("cpu", "1")
    size = bytes_in(memory)
    if not 128 * 2**20 <= size <= 32 * 2**30:
        yield f"--memory={memory} is not a size from 128Mi to 32Gi, such as 512Mi"
        size = 0
    thousandths = cpu.removesuffix("m")
    parts = float(thousandths) / (1000 if cpu.endswith("m") else 1) if number(thousandths) else 0
    least, most = MEMORY.get(f"{parts:g}", ("128Mi", "512Mi" if parts < 0.5 else "1Gi"))
    if not (f"{parts:g}" in MEMORY or 0.08 <= parts < 1):
        yield f"--cpu={cpu} is not a number of CPUs: 0.08 to 1, 2, 4, 6 or 8"
    elif size and size < bytes_in(least):
        yield f"--cpu={cpu} needs --memory={least} or more"
    elif size > bytes_in(most):
        yield f"--memory={memory} needs more CPUs than {cpu}: with --cpu={cpu} it is at most {most}"
    elif parts < 1 and function.flag("concurrency", "80") not in ("1",):
        yield f"--cpu={cpu} needs --concurrency=1, as anything below one CPU does"
    for name, highest in (("concurrency", 1000), ("max-instances", 10_000), ("min-instances", 10_000)):
        value, lowest = function.flag(name, "default"), 0 if name == "min-instances" else 1
        if value != "default" and not (value.isdecimal() and lowest <= int(value) <= highest):
            yield f"--{name}={value} is not a number from {lowest} to {highest}"
    timeout = re.fullmatch(r"(\d{1,5})([smh]?)", function.flag("timeout", "60"))
    if not timeout or not 1 <= int(timeout[1]) * SECONDS[timeout[2]] <= 3600:
        yield f"--timeout={function.flag('timeout', '')} is not a time from 1 to 3600 seconds, such as 60 or 5m"
    if function.flag("ingress", "all") not in INGRESS:
        yield f"--ingress={function.flag('ingress', '')} is none of {', '.join(INGRESS)}"


def bytes_in(size: str) -> int:
    """The size in bytes; 0 if it is not a size."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)([KMG]i?|)", size)
    return int(float(found[1]) * UNITS[found[2]]) if found else 0


def number(text: str) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+)?", text))
