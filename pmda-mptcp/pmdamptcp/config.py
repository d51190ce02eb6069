# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's configuration file: an INI file with one section, [mptcp]."""

import configparser
from typing import Any, Callable, NamedTuple

SECTION = "mptcp"
# An age of more than a minute would hide what happens.
_MOST = {"sample_age": 60, "instances": 2**31 - 1, "receive_buffer": 2**30}
_SWITCH = configparser.ConfigParser.BOOLEAN_STATES  # yes, no, on, off, true, false, 1, 0


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
    #: Look up which processes have MPTCP sockets?
    processes: bool = True
    #: Read the counters of mptcp.nft?
    nftables: bool = False


def read(path: str, log: Callable[[str], None]) -> Config:
    """The configuration; what is missing or wrong is logged and stays at its default."""
    log = _printable(log)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        log(f"configuration ignored, the defaults are used: {' '.join(str(error).split())}")
        return Config()
    config = Config()
    for section in parser.sections():
        if section != SECTION:
            log(f"{path}: unknown section [{section}] ignored")
    for key, text in parser.items(SECTION) if parser.has_section(SECTION) else ():
        default = Config._field_defaults.get(key)
        if default is None:
            log(f"{path}: unknown setting '{key}' ignored")
            continue
        value = _value(key, text, type(default))
        if value is None:
            log(f"{path}: {key} = {text}: not a value that makes sense, {default} is used")
            continue
        config = config._replace(**{key: value})
    return config


def _printable(log: Callable[[str], None]) -> Callable[[str], None]:
    """What a file has in it may be anything; PCP's log takes no NUL, and its readers expect a line to be one."""
    return lambda line: log("".join(one if one.isprintable() else "?" for one in line))


def _value(key: str, text: str, kind: type) -> Any:
    """The value of a setting, None for one that makes no sense."""
    if kind is bool:
        return _SWITCH.get(text.lower())
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if 0 <= value <= _MOST[key] else None
