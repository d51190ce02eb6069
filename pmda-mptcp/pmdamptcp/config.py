# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's configuration file: an INI file with one section, [mptcp]."""

import configparser
import os
import re
import stat
from enum import Enum
from typing import Any, Callable, Dict, NamedTuple, Tuple, Type

from .masks import Remote

SECTION = "mptcp"
# An age of more than a minute would hide what happens.
_MOST = {"sample_age": 60, "instances": 2**31 - 1, "receive_buffer": 2**30}
_LARGEST = 1 << 20  # bytes of a file
_MOST_NAMESPACES = 64
_NAMESPACE = re.compile(r"(?!\.)[A-Za-z0-9_.@:+-]{1,200}")  # never a path
_MOST_TEXT = 200  # characters of a file in a line of the log
_SWITCH = configparser.ConfigParser.BOOLEAN_STATES  # yes, no, on, off, true, false, 1, 0


class Processes(Enum):
    """Who is told which process has a socket open."""

    NO = "no"  # nobody: they are not looked up
    YES = "yes"  # each user of their own processes, PCP's recorders and root of all
    ALL = "all"  # everybody


class Config(NamedTuple):
    """The settings, with their defaults."""

    #: Seconds for which a sample serves further fetches, so that what one
    #: client asks for in several requests comes from one picture.
    sample_age: float = 0.1
    #: How many connections and how many subflows are shown one by one.
    #: Beyond, those seen first stay; sums count all of them all the same.
    instances: int = 10000
    #: Hear of subflows and of their ends between samples?
    listener: bool = True
    #: Bytes that may wait for the listener, for events and for ends each.
    receive_buffer: int = 8 << 20
    #: Look up which processes have MPTCP sockets, and tell whom?
    processes: Processes = Processes.YES
    #: How much of the peers' addresses is shown?
    remote_addresses: Remote = Remote.FULL
    #: Read the counters of mptcp.nft?
    nftables: bool = False
    #: Other network namespaces, by the names that ip-netns(8) gave them.
    namespaces: Tuple[str, ...] = ()
    #: Containers, too, by the names that PCP's pmdaroot knows?
    containers: bool = False
    #: Give up system calls that the agent does not need?
    seccomp: bool = True


_STRICT: Dict[str, Any] = {"processes": Processes.NO, "remote_addresses": Remote.NONE}


def read(path: str, log: Callable[[str], None]) -> Config:
    """The configuration; what is missing or wrong is logged and stays at its default.

    What would hide something and is wrong hides all: a slip of the pen must not show it.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_content(path), path)
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        log("configuration ignored, the defaults are used, and of processes and remote addresses nothing is shown: "
            + printable(" ".join(str(error).split())))
        return Config(**_STRICT)
    config = Config()
    for section in parser.sections():
        if section != SECTION:
            log(f"{path}: unknown section [{printable(section)}] ignored")
    for key, text in parser.items(SECTION) if parser.has_section(SECTION) else ():
        default = Config._field_defaults.get(key)
        if default is None:
            log(f"{path}: unknown setting '{printable(key)}' ignored")
            continue
        value = _value(key, text, type(default))
        if value is None:
            value = _STRICT.get(key, default)
            log(f"{path}: {key} = {printable(text)}: not a value that makes sense, {printable(value)} is used")
        config = config._replace(**{key: value})
    return config


def _content(path: str) -> str:
    """The text of a file.  Raises OSError and UnicodeDecodeError, also for what is no file: a pipe has no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no file")
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OSError(f"{path} is larger than {_LARGEST} bytes")
    return content.decode("utf-8")


def printable(value: Any) -> str:
    """As it stands in a file, on one line and without what a terminal takes for commands."""
    text = str(value.value if isinstance(value, Enum) else value)[:_MOST_TEXT]
    return "".join(one if one.isprintable() else "?" for one in text)


def _value(key: str, text: str, kind: Type[Any]) -> Any:
    """The value of a setting, None for one that makes no sense."""
    if kind is bool:
        return _SWITCH.get(text.lower())
    if kind is tuple:
        names = tuple(dict.fromkeys(text.replace(",", " ").split()))
        return names if len(names) <= _MOST_NAMESPACES and all(map(_NAMESPACE.fullmatch, names)) else None
    if issubclass(kind, Enum):
        word = text.lower()
        word = ("no", "yes")[_SWITCH[word]] if word in _SWITCH else word
        return next((one for one in kind if one.value == word), None)
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if 0 <= value <= _MOST[key] else None
