"""Where the configuration comes from: the file, the environment, systemd's credentials, flags."""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .errors import ConfigError

PREFIX = "AGGREGATOR_"
PLACES = (Path("config/aggregator.toml"), Path("/etc/aggregator/aggregator.toml"))


@dataclass(frozen=True, slots=True)
class Given:
    """What was given, by where it comes from; knows what holds and whom to blame."""

    STRENGTH: ClassVar = ("flags", "variables", "secrets", "document")

    source: str
    flags: Mapping[str, Any]
    variables: dict[str, Any]
    secrets: dict[str, Any]
    document: dict[str, Any]
    names: frozenset[str]

    def where(self, *keys: str) -> str:
        """Return where an option comes from, or the table that it is missing from."""
        if _has(self.flags, keys):
            return "command line"
        if not _has(self.variables, keys):
            table = keys[:-1]
            if _has(self.document, table) or not _has(self.variables, table):
                return self.source
            keys = table
        whole = (PREFIX + "__".join(keys[:n]).upper() for n in range(len(keys), 0, -1))
        part = PREFIX + "__".join(keys).upper() + "__"
        found = [n for n in whole if n in self.names]
        found += sorted(n for n in self.names if n.startswith(part))
        return f"environment: {found[0]}" if found else "environment"

    def credential_holds(self, credential: str, *option: str) -> bool:
        """Whether a credential goes before what was given for the option that it fills."""
        if _has(self.flags, option) or _has(self.variables, option):
            return False
        key = ("credentials", credential)
        stronger = _has(self.variables, key) or _has(self.secrets, key)
        return stronger or not _has(self.document, option)


def gather(
    path: Path | None,
    flags: Mapping[str, Any],
    environ: Mapping[str, str] | None,
    tables: Collection[str],
) -> Given:
    """
    Read everything that there is.

    Args:
        path: the TOML file; otherwise the first of `PLACES` that exists, or none.
        flags: what the command line says, nested as in the file.
        environ: the environment, where it is not this process's own.
        tables: the names at the top of the file, which a variable has to begin with.

    Raises:
        ConfigError: something can't be read, or a variable is unknown.

    """
    env = os.environ if environ is None else environ
    path = path or first_place()
    return Given(
        source=str(path) if path else "built-in defaults",
        flags=flags,
        variables=_variables(env, tables),
        secrets=_credentials_directory(env),
        document=_read(path) if path else {},
        names=frozenset(name.upper() for name in env),
    )


def first_place() -> Path | None:
    """Return the first of `PLACES` that is there."""
    try:
        return next((p for p in PLACES if p.is_file()), None)
    except OSError as e:  # a directory on the way to it that may not be entered
        raise ConfigError(f"{e.filename}: can't be read: {e.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as e:
        raise ConfigError(f"{path}: can't be read: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: is no TOML: {e}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None


def _variables(env: Mapping[str, str], tables: Collection[str]) -> dict[str, Any]:
    """Return `AGGREGATOR_SERVER__PORT`-style variables, nested as in the file."""
    known = {PREFIX + name.upper() for name in tables}
    result: dict[str, Any] = {}
    # In order, so that a whole table comes before its parts.
    for name in sorted(env):
        if not name.upper().startswith(PREFIX):
            continue
        if name.upper().partition("__")[0] not in known:
            expected = ", ".join(sorted(f"{k}__..." for k in known))
            raise ConfigError(f"environment: {name}: unknown variable; expected {expected}")
        *outer, key = name.lower().removeprefix(PREFIX.lower()).split("__")
        table = result
        for each in outer:
            if not isinstance(table.get(each), dict):
                table[each] = {}
            table = table[each]
        # The key of a venue stays what it is, even one that is made of digits or looks like JSON.
        table[key] = env[name] if outer == ["credentials"] else _decoded(env[name])
    return result


def _decoded(text: str) -> Any:
    """Return the list or table that a variable is as JSON; anything else is its text."""
    if text.lstrip()[:1] in {"[", "{"}:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


def _has(document: Mapping[str, Any], keys: Sequence[str]) -> bool:
    value: Any = document
    for key in keys:
        if not isinstance(value, Mapping):
            return True  # something else stands where there should be a table
        if key not in value:
            return False
        value = value[key]
    return True


def _credentials_directory(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the files that systemd's `LoadCredential=` put there, by name."""
    directory = env.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return {}
    path = folder = Path(directory)
    files = {}
    try:
        for path in sorted(folder.iterdir()):
            files[path.name] = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "is no UTF-8"
        raise ConfigError(f"credentials: {path}: can't be read: {reason}") from None
    return {"credentials": {name: text for name, text in files.items() if text}}
