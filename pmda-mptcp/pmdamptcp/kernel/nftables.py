# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets of MPTCP by interface, counted by the table of mptcp.nft (nft(8), libnftables-json(5)).

Whoever runs the host loads that table; here it is only read, through nftables' own binding.
"""

import errno
import json
import os
from functools import lru_cache
from typing import Any, Dict, NamedTuple, Optional

from ..privileges import net_admin
from . import netlink

FAMILY, TABLE, RECEIVED, SENT = "inet", "pcp_mptcp", "received", "sent"
NETLINK_NETFILTER = 12


class Counter(NamedTuple):
    """One element of a set; bytes from the IP header on, before segmentation and after coalescing."""

    bytes: int
    packets: int


class Wire(NamedTuple):
    """What an interface carried since the table was loaded; None: nothing in that direction yet."""

    received_bytes: Optional[int]
    received_packets: Optional[int]
    sent_bytes: Optional[int]
    sent_packets: Optional[int]


def read() -> Dict[str, Wire]:
    """Interface name -> counters, also of interfaces that are gone; empty before the first packet.

    libnftables leaves out names that are not UTF-8.  Raises OSError (EPERM: no
    CAP_NET_ADMIN, ENOENT: table not loaded, ENOPKG: no python3-nftables, EIO:
    another complaint) and ValueError (an answer that mptcp.nft does not lead to).
    """
    if not net_admin():  # libnftables would write to stderr at each read
        raise OSError(errno.EPERM, "the counters of nftables are told to CAP_NET_ADMIN only")
    received, sent = _counters(RECEIVED), _counters(SENT)
    return {name: Wire(*received.get(name, (None, None)), *sent.get(name, (None, None)))
            for name in {**received, **sent}}


def decode(text: str, name: str) -> Dict[str, Counter]:
    """Interface name -> counter, from the JSON of one set.  Raises ValueError."""
    try:
        (found,) = [item["set"] for item in json.loads(text)["nftables"] if "set" in item]
        if (found["family"], found["table"], found["name"]) != (FAMILY, TABLE, name):
            raise ValueError("another set")
        elements = [element["elem"] for element in found.get("elem", [])]
        counters = {_text(element["val"]): Counter(_number(element["counter"]["bytes"]),
                                                   _number(element["counter"]["packets"]))
                    for element in elements}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"set {name} of table {FAMILY} {TABLE} is not that of mptcp.nft: {error!r}") from None
    if len(counters) != len(elements):
        raise ValueError(f"set {name} of table {FAMILY} {TABLE} has an interface twice")
    return counters


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} for a name")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:  # a bool is an int, too
        raise ValueError(f"{value!r} for a number")
    return value


def _counters(name: str) -> Dict[str, Counter]:
    # One set at a time: to print the rules of a whole table, libnftables asks for all links, too.
    netlink.open_socket(NETLINK_NETFILTER).close()  # where this fails, libnftables would end the process
    failed, answer, complaint = _library().cmd(f"list set {FAMILY} {TABLE} {name}")
    if not failed:
        return decode(answer, name)
    if os.strerror(errno.ENOENT) in complaint:
        raise OSError(errno.ENOENT, f"no set {name} in table {FAMILY} {TABLE}: load mptcp.nft")
    denied = os.strerror(errno.EPERM) in complaint
    raise OSError(errno.EPERM if denied else errno.EIO, f"libnftables: {complaint.strip() or 'failed'}")


@lru_cache(maxsize=None)
def _library() -> Any:
    """The one handle of libnftables; loaded only where somebody reads.  Raises OSError."""
    try:
        import nftables  # type: ignore
        library = nftables.Nftables()
    except (ImportError, OSError) as error:
        raise OSError(errno.ENOPKG, f"install python3-nftables: {error}") from None
    library.set_json_output(True)
    return library
