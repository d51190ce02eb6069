# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's configuration file: an INI file with one section, [mptcp]."""

import configparser
from typing import Callable, NamedTuple

SECTION = "mptcp"
# An age of more than a minute would hide what happens.
_MOST = {"sample_age": 60, "instances": 2**31 - 1}


class Config(NamedTuple):
    """The settings, with their defaults."""

    #: Seconds for which a sample serves further fetches, so that what one
    #: client asks for in several requests comes from one picture.
    sample_age: float = 0.1
    #: How many connections and how many subflows are shown one by one.
    #: Beyond, those seen first stay; sums count all of them all the same.
    instances: int = 20000


def read(path: str, log: Callable[[str], None]) -> Config:
    """The configuration; what is missing or wrong is logged and stays at its default."""
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
        try:
            value = type(default)(text)
            if not 0 <= value <= _MOST[key]:
                raise ValueError
        except ValueError:
            log(f"{path}: {key} = {text}: not a number that makes sense, {default} is used")
            continue
        config = config._replace(**{key: value})
    return config
