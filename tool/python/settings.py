"""Settings of pip and uv: keeps those that say where packages come from, not where they go.

Variables and files can tell both to install for the user, into some folder or for another Python.
Here, packages always go into environments made for them. Settings of index, links, proxy, certificate
and cache are kept. uv does not read pip's settings: it gets those that say where packages come from,
unless it has its own.
"""

import os
import pathlib
import re
import sys
import tomllib
from collections.abc import Mapping

OF_PIP = (
    "index-url extra-index-url no-index find-links trusted-host proxy cert client-cert cache-dir no-cache-dir"
    " retries timeout default-timeout keyring-provider use-feature"
).split()
OF_UV = re.compile(
    "UV_(DEFAULT_INDEX|INDEX.*|EXTRA_INDEX_URL|NO_INDEX|FIND_LINKS|CACHE_DIR|NO_CACHE|LINK_MODE|OFFLINE"
    "|SYSTEM_CERTS|NATIVE_TLS|INSECURE_HOST|KEYRING_PROVIDER|CREDENTIALS_DIR|HTTP_.*|REQUEST_TIMEOUT"
    "|CONCURRENT_.*|NO_PROGRESS)"
)
LISTS = {"extra-index-url": " ", "find-links": ",", "allow-insecure-host": " ", "trusted-host": " "}
NAMES = {"allow-insecure-host": "UV_INSECURE_HOST", "native-tls": "UV_SYSTEM_CERTS", "system-certs": "UV_SYSTEM_CERTS"}
IN_FILES = "index-url no-index cache-dir no-cache offline keyring-provider index-strategy link-mode".split()

# pip's settings, and uv's variables for them. If uv has a variable of a group, pip's group is ignored.
FROM_PIP = {
    "index-url": "UV_INDEX_URL", "extra-index-url": "UV_EXTRA_INDEX_URL", "no-index": "UV_NO_INDEX",
    "find-links": "UV_FIND_LINKS", "trusted-host": "UV_INSECURE_HOST", "proxy": "ALL_PROXY",
    "cert": "SSL_CERT_FILE", "client-cert": "SSL_CLIENT_CERT",
}  # fmt: skip
SOURCES = {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX", "UV_FIND_LINKS"}
CERTIFICATES = {"UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "SSL_CERT_FILE", "SSL_CERT_DIR"}


def for_pip(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip. It keeps only the settings in OF_PIP, and keeps pip from reading its files."""
    others = {name: value for name, value in env.items() if not name.startswith("PIP_")}
    kept = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in said_to_pip(env).items() if name in OF_PIP}
    return {**others, **kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def to_run_uv(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which this tool runs uv."""
    # Like pip: a network that inspects its traffic has its certificate in the system's store.
    # With uv's default of 50 connections, some networks keep a few waiting for seconds.
    defaults = {"UV_SYSTEM_CERTS": "1", "UV_CONCURRENT_DOWNLOADS": "8"}
    # uv asks a Python for its folders, and reads the answer as UTF-8, which it is in this locale.
    return {**defaults, **for_uv(env), "LC_ALL": "C"}


def for_uv(env: Mapping[str, str]) -> dict[str, str]:
    """The variables for uv: of its own, only those in OF_UV; and what its files and pip's settings say."""
    kept = {k: v for k, v in env.items() if not k.startswith("UV_") or OF_UV.fullmatch(k)}
    own = {**in_files(env), **kept, "UV_NO_CONFIG": "1"}
    overruled = {name for group in (SOURCES, CERTIFICATES) if own.keys() & group for name in group}
    return {name: value for name, value in of_pip(env).items() if name not in overruled} | own


def of_pip(env: Mapping[str, str]) -> dict[str, str]:
    """What pip's files and variables say about where packages come from, as variables for uv."""
    found: dict[str, str] = {}
    for name, value in said_to_pip(env).items():
        if name in FROM_PIP:
            parts = value.split() if name in LISTS else [value]
            found[FROM_PIP[name]] = LISTS.get(name, "").join(map(os.path.expanduser, parts))
    if "UV_EXTRA_INDEX_URL" in found:  # to pip, all indexes are equal
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def said_to_pip(env: Mapping[str, str]) -> dict[str, str]:
    """pip's settings from its files and variables, without empty ones."""
    variables = {name[4:].lower().replace("_", "-"): value for name, value in env.items() if name.startswith("PIP_")}
    return in_pip_files(env) | {name: value for name, value in variables.items() if value}


def in_pip_files(env: Mapping[str, str]) -> dict[str, str]:
    import configparser  # only needed where something is installed

    files = configparser.RawConfigParser()
    for file in pip_files(env):
        try:
            files.read(file, "utf-8")
        except (OSError, ValueError, configparser.Error):
            continue
    sections = [dict(files[name]) for name in ("global", "install") if name in files]
    return {name.replace("_", "-"): value for section in sections for name, value in section.items() if value}


def pip_files(env: Mapping[str, str]) -> list[str]:
    """pip's files, in the order of its documentation: the later one wins."""
    home, given = env.get("HOME", ""), env.get("PIP_CONFIG_FILE", "")
    if given == os.devnull:
        return []
    of_mac = f"{home}/Library/Application Support"
    config = of_mac if os.path.isdir(f"{of_mac}/pip") else env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    shared = ["/Library/Application Support", *env.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    of_user = [] if os.path.exists(given) else [f"{home}/.pip/pip.conf", f"{config}/pip/pip.conf"]
    return [*(f"{folder}/pip/pip.conf" for folder in shared), "/etc/pip.conf", *of_user, f"{sys.prefix}/pip.conf", given]


def in_files(env: Mapping[str, str]) -> dict[str, str]:
    """What the uv.toml files of the system and of this user say about where packages come from, as variables."""
    home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", ""), ".config")
    files = ("/etc/uv/uv.toml", os.path.join(home, "uv", "uv.toml"), env.get("UV_CONFIG_FILE") or os.devnull)
    found: dict[str, str] = {}
    for file in files:
        try:
            content = tomllib.loads(pathlib.Path(file).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        found |= variables({**content, **content.get("pip", {})})
    return found


def variables(content: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in content.items():
        name = NAMES.get(key, f"UV_{key.upper().replace('-', '_')}")
        if key in LISTS and isinstance(value, list):
            found[name] = LISTS[key].join(map(str, value))
        elif key in IN_FILES or key in NAMES:
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    indexes = content.get("index")
    for index in indexes if isinstance(indexes, list) else ():
        named = f"{index['name']}={index['url']}" if "name" in index else str(index["url"])
        if index.get("default"):
            found["UV_DEFAULT_INDEX"] = named
        else:
            found["UV_INDEX"] = f"{found['UV_INDEX']} {named}" if "UV_INDEX" in found else named
    return found
