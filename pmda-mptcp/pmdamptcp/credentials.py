# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asks: the attributes that pmcd(1) hands on of each of its clients.

pmcd asks the kernel for them where the client comes by the local socket
(SO_PEERCRED), or has them from an authentication; a client cannot claim them.
One that comes by TCP and does not authenticate has none.

What the kernel tells only a process's own user, the agent tells only that
user, too, root, and PCP's own recorders: archives are to be complete.
pmproxy(1) is the same user as these, but asks for whoever speaks HTTP, so that
the user alone does not tell.
"""

import os
from typing import Dict, NamedTuple, Optional

USERID, PROCESSID, CONTAINER = 11, 14, 15  # PMDA_ATTR_* of pmda.h

_RECORDERS, _RELAYS = {b"pmlogger", b"pmie"}, {b"pmproxy"}


class Viewer(NamedTuple):
    """A client as far as it matters here."""

    uid: Optional[int] = None  # None: not known
    everything: bool = False

    def sees(self, uid: Optional[int]) -> bool:
        """May it know about a process of this user?"""
        return self.everything or (uid is not None and uid == self.uid)


class Credentials:
    """Attributes by the numbers of contexts, which pmcd gives anew once it has told their end."""

    def __init__(self) -> None:
        self._attributes: Dict[int, Dict[int, str]] = {}
        self._viewers: Dict[int, Viewer] = {}

    def note(self, context: int, attribute: int, value: str) -> None:
        """pmcd tells an attribute."""
        self._attributes.setdefault(context, {})[attribute] = value
        self._viewers.pop(context, None)

    def end(self, context: int) -> None:
        """pmcd tells that a client is gone."""
        self._attributes.pop(context, None)
        self._viewers.pop(context, None)

    def of(self, context: int, attribute: int) -> Optional[str]:
        """What is known of a client."""
        return self._attributes.get(context, {}).get(attribute)

    def viewer(self, context: int) -> Viewer:
        """What it may see; found out once, for a process can change its name."""
        if context not in self._attributes:
            return Viewer()
        if context not in self._viewers:
            uid, name = _number(self.of(context, USERID)), _name(self.of(context, PROCESSID))
            self._viewers[context] = Viewer() if name in _RELAYS else Viewer(
                uid, uid == 0 or (uid == os.geteuid() and name in _RECORDERS))
        return self._viewers[context]


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isascii() and text.isdigit() else None


def _name(pid: Optional[str]) -> bytes:
    try:
        with open(f"/proc/{_number(pid)}/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b""
