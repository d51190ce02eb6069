# SPDX-License-Identifier: GPL-2.0-or-later
"""What pmlogger's archives grow by in a day, with the groups that Install brings.

A day is recorded in fast motion: every interval, and the life of connections,
is a tenth. Counted is what the files grow by in a time that is a whole multiple
of all intervals, after the first sample of each group, times the number of such
times in a day. Nothing else is scaled: real connections, real pmlogger.
"""

import contextlib
import itertools
import re
import time
from pathlib import Path

from tests.lab import Lab
from tests.lab.common import LabError, wait_for
from .common import Verdict, hold, say, settle, value
from .generator import Generator

GROUPS = Path(__file__).resolve().parents[2] / "pmda-mptcp" / "etc" / "pmlogconf"
LINKS = 3
FASTER = 10
DEFAULT = 60  # seconds between records of a group without an interval of its own
WINDOW = 60  # seconds, of recording: ten minutes of a day
CASES = ((10, 0), (100, 0), (1000, 0), (100, 1))  # connections held open, and new ones in a second
LIFE = 30  # seconds that the new ones are open
DAY = 86_400
UNITS = {"sec": 1, "second": 1, "min": 60, "minute": 60}


def main(options):
    """Bytes a day of an archive: default groups and every subflow, V2 and V3, connections idle and changing."""
    verdict, rows = Verdict(), {}
    with Lab(links=LINKS, rate=None, delay_ms=0) as lab:
        lab.tutorial()
        lab.client.start_pcp()
        configs = {"default": configure(lab.client, detail=False), "detail": configure(lab.client, detail=True)}
        say(f"{len(lab.client.pminfo('mptcp.interface.up'))} interfaces, {LINKS} subflows per connection; "
            f"MB a day, metadata in parentheses")
        say("connections  new/s" + "".join(f"{name:>15} V{version}" for name, version in columns(configs))
            + "  ms of a sample")
        for number, rate in CASES:
            rows[number, rate] = grown, cost = case(lab, configs, number, rate)
            say(f"{number:11d} {rate:6d}" + "".join(
                f"{(data + meta) / 1e6:9.1f} ({meta / 1e6:6.1f})" for data, meta in grown.values()) + f"{cost:16.1f}")
    small, large = (sum(rows[number, 0][0]["default", 3]) for number in (10, 1000))
    verdict.most("default groups, 1000 connections to 10", large / small, 1.05)
    changing = rows[100, 1][0]
    verdict.most("V3 to V2 with every subflow while they change",
                 sum(changing["detail", 3]) / sum(changing["detail", 2]), 1.0)
    return verdict.missed


def columns(configs):
    """What is recorded at the same time."""
    return itertools.product(configs, (2, 3))


def configure(host, detail):
    """A configuration as PCP makes it from the groups, with all intervals shortened."""
    path = host.work / f"groups-{'detail' if detail else 'default'}"
    make = ("pmlogconf", "-c", "-q", "-r", "-h", "unix:", "-d", GROUPS, path)
    host.run(*make)
    if detail:
        path.write_text(path.read_text(encoding="utf-8").replace("#+ mptcp/subflows:n:", "#+ mptcp/subflows:y:"),
                        encoding="utf-8")
        host.run(*make)
    text = path.read_text(encoding="utf-8")
    if ("mptcp.subflow\n" in text) != detail:
        raise LabError(f"pmlogconf made of {GROUPS}:\n{text}")
    path.write_text(re.sub(r"^log advisory on (.+) \{", shorten, text, flags=re.MULTILINE), encoding="utf-8")
    return path


def shorten(match):
    """A line of the configuration with its interval in fast motion."""
    words = match[1].split()
    seconds = DEFAULT if words == ["default"] else int(words[0]) * UNITS[words[1].rstrip("s")]
    if WINDOW * FASTER % seconds:
        raise LabError(f"{match[0]}: {WINDOW * FASTER} s is not a multiple")
    return f"log advisory on {seconds * 1000 // FASTER} msec {{"


def case(lab, configs, number, rate):
    """Record with every column at once: {column: (bytes of data and index, of metadata) a day}, ms of a sample."""
    host = lab.client
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold(lab, number))
        wanted = number * LINKS
        if settle(lambda: sum(host.pminfo("mptcp.subflows").values()), wanted) != wanted:
            raise LabError(f"not {wanted} subflows: {host.pminfo('mptcp.subflows')}")
        if rate:
            generator = stack.enter_context(Generator(lab))
            client = generator.client(rate * FASTER, WINDOW + 20, life=LIFE * 1000 // FASTER)
            stack.callback(host.stop, client)
            time.sleep(LIFE / FASTER)  # as many end as begin from now on
        archives = {column: host.work / f"{column[0]}-{number}-{rate}-{column[1]}" for column in columns(configs)}
        for (name, version), path in archives.items():
            stack.callback(host.stop, host.popen(
                "pmlogger", "-h", "unix:", "-V", version, "-c", configs[name], "-l", f"{path}.log", path))
        wait_for(lambda: all(Path(f"{path}.meta").exists() for path in archives.values()), message="no archives")
        time.sleep(2.5)  # the first sample of each group has all the metadata that stays
        before = {column: sizes(path) for column, path in archives.items()}
        start = time.monotonic(), value(host, "mptcp.agent.sample_time"), value(host, "mptcp.agent.samples")
        time.sleep(WINDOW - (time.monotonic() - start[0]))
        grown = {column: tuple((new - old) * DAY / (WINDOW * FASTER) for new, old in zip(sizes(path), before[column]))
                 for column, path in archives.items()}
        spent = value(host, "mptcp.agent.sample_time") - start[1]
        taken = value(host, "mptcp.agent.samples") - start[2]
    return grown, spent / taken / 1e3


def sizes(archive):
    """Bytes of an archive so far: data with its index, and metadata."""
    return (sum(Path(f"{archive}.{part}").stat().st_size for part in ("0", "index")),
            Path(f"{archive}.meta").stat().st_size)
