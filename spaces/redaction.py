"""Secrets in what people give: found by the form of a value or by its name, and left out of all that is
written or shown.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import yaml

MARK = "***"
"""What stands in the place of a secret."""

_URL = re.compile(r"(?<![\w+.-])([A-Za-z][A-Za-z0-9+.-]*)://")
_WEB = ("http", "https", "ws", "wss", "s3", "gs", "file", "hdfs")
"""Schemes in which ``host:port/path`` may hold an '@' of no meaning."""
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ENDINGS = ("password", "passwords", "passwd", "passphrase", "secret", "secrets", "apikey", "pwd")
_WHOLE = ("pass", "pw", "authorization", "credentials", "credential", "bearer")
_KEYS = ("api", "access", "private", "secret", "auth", "account", "encryption", "signing", "master")
_TOKENS = (
    "access",
    "auth",
    "api",
    "bearer",
    "refresh",
    "session",
    "id",
    "client",
    "hub",
    "hf",
    "wandb",
    "bot",
)
"""What stands before ``token`` in one word."""
_HARMLESS_TOKENS = re.compile(
    "bos|cls|class|dist|eos|sos|mask|mlm|pad(ding)?|sep(arator)?|special|start|end|stop|unk(nown)?|image|"
    "register|prompt|query|cross|first|last|next|new|blank|text|pool(ing)?|num|max|min|per|sub|vocab"
)
"""What stands before ``token`` where that is a piece of a text."""
_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"',;&)}\]]+)"""
_ASSIGNED = re.compile(rf"(?<![\w.-])([A-Za-z][\w.-]*)(\s*=\s*)({_VALUE})")
_QUOTED = re.compile(rf"""(["'])([A-Za-z][\w.-]*)\1(\s*:\s*)({_VALUE})""")
_PLACEHOLDER = re.compile(r"\$\{?\w+\}?|<[^<>]*>|\[[^\[\]]*\]")
_LEFT_OUT = re.compile(rf":{re.escape(MARK)}@|=['\"]?{re.escape(MARK)}|['\"]:\s*['\"]{re.escape(MARK)}")

_known: set[str] = set()
_variables: set[str] = set()


# -- what is told --------------------------------------------------------------------------------------------


def remember(*secrets: str) -> None:
    """Leave these out of every text that this process shows from now on; plain, and as URLs write them."""
    for secret in secrets:
        if len(secret) >= 4 and secret != MARK:
            _known.update({secret, unquote(secret), quote(secret, safe="")})


def remember_all(value: Any, name: str = "") -> None:
    """Remember every secret in a value: see :func:`redacted`."""

    def hide(secret: str) -> str:
        remember(secret)
        return MARK

    _walk(value, name, hide)


def remember_variable(name: str) -> None:
    """Keep an environment variable from the processes that are started for candidates."""
    _variables.add(name)


def variables() -> frozenset[str]:
    """Names of the environment variables that hold secrets."""
    return frozenset(_variables)


# -- what is left out ----------------------------------------------------------------------------------------


def redacted(value: Any, name: str = "") -> Any:
    """Return a value without its secrets.

    Left out are passwords of URLs (``scheme://user:password@host``), what follows ``password=`` and the like
    in a text or the query of a URL, and values under keys such as ``password``, ``token`` or ``api_key``.

    Args:
        value: mappings, lists and plain values; other objects are returned as they are.
        name: key under which it stands.

    Returns:
        The value itself where there is nothing to leave out.
    """
    changed = _walk(value, name, lambda secret: MARK)
    return value if changed == value else changed


def redacted_text(text: str) -> str:
    """Return a text for people (an error, a line of a log) without secrets in it, those that this process
    remembers among them.
    """
    text = _in_text(text, lambda secret: MARK)
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            edge = r"\b" if secret.isalnum() and len(secret) < 8 else ""
            text = re.sub(f"{edge}{re.escape(secret)}{edge}", MARK, text)
    return text


def redacted_words(words: Iterable[str]) -> list[str]:
    """Return the words of a command line without secrets."""
    return _through_words(words, lambda secret: MARK)


def remember_words(words: Iterable[str]) -> bool:
    """Remember the secrets on a command line; whether there is one."""
    found: list[str] = []

    def hide(secret: str) -> str:
        found.append(secret)
        return MARK

    _through_words(words, hide)
    remember(*found)
    return bool(found)


def redacted_yaml(text: str) -> str:
    """Return a YAML text without secrets: the text itself where it has none."""
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return redacted_text(text)
    without = redacted(found)
    return text if without is found else yaml.safe_dump(without, sort_keys=False, allow_unicode=True)


def left_out(value: Any, place: str = "") -> str | None:
    """Return the place of the first secret in a value that was left out, None where it is whole."""
    for where, text in _texts(value, place):
        if text == MARK or _LEFT_OUT.search(text):
            return where
    return None


def is_secret(name: str) -> bool:
    """Whether what stands under a key of this name is a secret: ``db_password``, ``apiKey``, ``HF_TOKEN``."""
    words = [word.lower() for word in _PARTS.findall(name.rpartition(".")[2])]
    while len(words) > 1 and (words[-1].isdigit() or words[-1] in ("value", "string", "text")):
        words.pop()
    if not words:
        return False
    *before, last = words
    if last.endswith(_ENDINGS) or last in _WHOLE:
        return True
    if last == "key":
        return bool(before) and before[-1] in _KEYS
    if last == "token":
        return not before or not _HARMLESS_TOKENS.fullmatch(before[-1])
    return last.endswith("token") and last.removesuffix("token") in _TOKENS


def password_of(url: str) -> str | None:
    """Return the password of a URL as it stands there; None where it has none."""
    found: list[str] = []

    def hide(secret: str) -> str:
        found.append(secret)
        return MARK

    _in_urls(url, hide)
    return found[0] if found else None


def parsable(url: str) -> str:
    """Return a database's URL with an '@' inside its password written as parsers expect it, ``%40``."""
    return _in_urls(url, lambda secret: secret.replace("@", "%40"), queries=False)


# -- how it is found -----------------------------------------------------------------------------------------

Hide = Callable[[str], str]


def _walk(value: Any, name: str, hide: Hide, inside: bool = False) -> Any:
    """Return a copy of a value with every secret in it changed.

    Args:
        inside: whether all plain values are secrets, by the name of what they stand in.
    """
    secret = inside or is_secret(name)
    if isinstance(value, Mapping):
        inside = secret and "class_path" not in value
        return {
            key: item if key == "class_path" else _walk(item, str(key), hide, inside)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)([_walk(item, name, hide, inside) for item in value]) if _plain(value) else value
    if secret and _hidden(name, value):
        return hide(str(value))
    return _in_text(value, hide) if isinstance(value, str) else value


def _plain(value: Sequence[Any]) -> bool:
    return type(value) in (list, tuple)


def _hidden(name: str, value: Any) -> bool:
    """Whether a value under the name of a secret is one: what is empty, a switch or the name of a variable is
    not.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "token" not in name.lower()
    if not isinstance(value, str) or not value or value == MARK or _PLACEHOLDER.fullmatch(value):
        return False
    return not (value.isdigit() and "token" in name.lower())


def _in_text(text: str, hide: Hide) -> str:
    text = _in_urls(text, hide)
    text = _ASSIGNED.sub(lambda m: f"{m[1]}{m[2]}{_assigned(m[1], m[3], hide)}", text)
    return _QUOTED.sub(lambda m: f"{m[1]}{m[2]}{m[1]}{m[3]}{_assigned(m[2], m[4], hide)}", text)


def _assigned(name: str, value: str, hide: Hide) -> str:
    bare = value[1:-1] if value[:1] in ("'", '"') else value
    if not is_secret(name) or not _hidden(name, bare):
        return value
    return value.replace(bare, hide(bare), 1)


def _in_urls(text: str, hide: Hide, queries: bool = True) -> str:
    """Return a text with the secrets of all URLs in it changed."""
    parts, end = [], 0
    for match in _URL.finditer(text):
        if match.start() < end:
            continue  # inside the one before
        start = match.end()
        stop = next((place for place in range(start, len(text)) if text[place].isspace()), len(text))
        if not text[: match.start()].strip() and match[1].lower() not in _WEB:
            stop = len(text)  # the whole text is one URL
        parts += [text[end:start], _url(match[1].lower(), text[start:stop], hide, queries)]
        end = stop
    return "".join([*parts, text[end:]])


def _url(scheme: str, rest: str, hide: Hide, queries: bool) -> str:
    """What follows ``scheme://``, with its secrets changed."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, colon, after = authority.partition(":")
    if "@" in authority:
        end = authority.rindex("@")
    # a '/', '?' or '#' that should have been percent-encoded
    elif colon and user and "@" in rest and not (scheme in _WEB and (not after or after.isdigit())):
        end = rest.rindex("@")
    else:
        end = 0
    user, _, password = rest[:end].partition(":")
    if password and password != MARK:
        rest = f"{user}:{hide(password)}{rest[end:]}"
    return rest if not queries else _QUERY.sub(lambda m: f"{m[1]}={_assigned(m[1], m[2], hide)}", rest)


_QUERY = re.compile(r"""(?<=[?&;])([A-Za-z][\w.-]*)=([^&;\s"']+)""")


def _through_words(words: Iterable[str], hide: Hide) -> list[str]:
    """The words of a command line, with their secrets changed: URLs, ``--a.password VALUE``,
    ``--a.password=VALUE``, ``--a '{password: VALUE}'``.
    """
    result: list[str] = []
    option = ""
    for word in words:
        head, is_joined, value = word.partition("=") if word.startswith("-") else (option, "", word)
        name = head.lstrip("-") if head.startswith("-") else ""
        if word.startswith("-") and not is_joined:
            result.append(_in_text(word, hide))
        else:
            changed = _word(name, value, hide)
            result.append(f"{head}={changed}" if is_joined else changed)
        option = word if word.startswith("-") and not is_joined else ""
    return result


def _word(name: str, value: str, hide: Hide) -> str:
    if value[:1] in ("{", "["):
        try:
            found = yaml.safe_load(value)
        except yaml.YAMLError:
            return _in_text(value, hide)
        changed = _walk(found, name, hide)
        return value if changed == found else json.dumps(changed, default=str)
    changed = _walk(value, name, hide)
    if changed == value and " " in value:  # a whole command, such as `sh -c` takes it
        with_words = _shell(value)
        inner = _through_words(with_words, hide) if len(with_words) > 1 else with_words
        return value if inner == with_words else shlex.join(inner)
    return str(changed)


def _shell(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return [text]


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """The texts in a value, each with the dotted keys that lead to it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = place if key == "init_args" else f"{place}.{key}".lstrip(".")
            yield from _texts(item, inner)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _texts(item, f"{place}.{number}".lstrip("."))
