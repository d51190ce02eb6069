# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host's pmlogger records by default, for the scenarios that are told from archives."""

import contextlib
import re
from pathlib import Path

from ..common import LabError
from ..pmcd import REPOSITORY

GROUPS = REPOSITORY / "pmda-mptcp" / "etc" / "pmlogconf" / "mptcp"
DEFAULT = ("summary", "counters", "settings")
USUAL = 60  # seconds, pmlogger's interval of a group that names none
UNITS = {"seconds": 1, "minutes": 60}


def default_groups(scale=1.0):
    """The groups that are recorded by default as a configuration of pmlogger; scale 0.1 records ten times as often."""
    texts = []
    for name in DEFAULT:
        text = (GROUPS / name).read_text(encoding="utf-8")
        delta = re.search(r"^delta\s+(\d+) (\w+)$", text, re.MULTILINE)
        interval = int(delta[1]) * UNITS[delta[2]] if delta else USUAL
        metrics = re.findall(r"^\s+(mptcp\.\S+)$", text, re.MULTILINE)
        texts.append(f"log advisory on {interval * scale * 1000:.0f} msec {{\n" + "\n".join(metrics) + "\n}\n")
    return "".join(texts)


@contextlib.contextmanager
def recorded(lab, directory, scales):
    """Record both hosts while the block runs, at scales by name; archives by the names of host and scale."""
    with contextlib.ExitStack() as stack:
        archives, loggers = {}, []
        for host in (lab.client, lab.server):
            for name, scale in scales.items():
                archive = archives[host.name, name] = Path(directory) / f"{host.name}-{name}"
                loggers.append(stack.enter_context(host.pmlogger(default_groups(scale), archive)))
        yield archives
        if any(logger.poll() is not None for logger in loggers):
            raise LabError("pmlogger was ended before the story was; PCP's own scripts end all of a machine")
