# SPDX-License-Identifier: GPL-2.0-or-later
"""Play the MPTCP tutorial between two hosts on this machine, and watch it.

Builds two hosts with three links of 50 Mbit/s each, lets iperf3 use all of
them at once, takes one link away and brings it back, while pmrep shows what
happens.  Nothing leaves this machine, and everything is removed at the end.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # root must leave no files in a user's checkout

if __package__:
    from . import Lab, LabError, Terminated, cleanup, missing
else:  # python3 tests/lab: the path has this directory, not the one above it
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from lab import Lab, LabError, Terminated, cleanup, missing

INTERVAL = 2  # seconds between the rows of pmrep
CUT = 3  # the link that is taken away


def say(text=""):
    """Print now: pmrep writes to the same place."""
    print(text, flush=True)


def command(host, line):
    """Show a command as one types it."""
    say(f"{host.name}# {line}")


def settings(lab, family):
    """Set up MPTCP and show how."""
    lab.tutorial(family)
    for host in (lab.client, lab.server):
        command(host, "ip mptcp limits set subflows 2 add_addr_accepted 2")
    for n in (2, 3):
        command(lab.server, f"ip mptcp endpoint add {lab.server.address_of(n, family)} "
                            f"dev {lab.server.links[n - 1]} signal")


def watch(host):
    """Start pmrep; its rows appear between our lines."""
    metrics = ("mptcp.subflows", "network.interface.in.bytes")
    command(host, f"pmrep {' '.join(metrics)} -t{INTERVAL}")
    # Without lo, as the table has to fit a terminal.
    process = host.popen("pmrep", "-h", "unix:", *metrics, f"-t{INTERVAL}", "-i", "enp.*",
                         env=dict(host.env, PYTHONUNBUFFERED="1"))
    time.sleep(1.5 * INTERVAL)
    if process.poll() is not None:
        say()  # fails if nobody reads any more, which ended pmrep as well
        raise LabError("pmrep does not run")
    return process


def play(lab, seconds, family):
    """The scenario; return iperf3's report and when the link was away."""
    settings(lab, family)
    pmrep = watch(lab.client)
    server = lab.server.address_of(1, family)
    command(lab.server, "mptcpize run iperf3 -s")
    command(lab.client, f"mptcpize run iperf3 -c {server} -R -t{seconds}")
    run = lab.iperf3(seconds, reverse=True, family=family)
    start = time.monotonic()
    times = []
    link = lab.client.links[CUT - 1]
    # link_up() also restores what a network manager would.
    for share, change, word in (
            (0.33, lab.client.link_down, "down"),
            (0.6, lab.client.link_up, "up    # and again its addresses and routes")):
        time.sleep(max(0, start + share * seconds - time.monotonic()))
        command(lab.client, f"ip link set {link} {word}")
        change(CUT)
        times.append(time.monotonic() - start)
    report = run.json(timeout=seconds + 60)
    time.sleep(1.5 * INTERVAL)  # a row without traffic
    lab.client.stop(pmrep)
    return report, times


def mean_rate(report, start, end):
    """Mean Mbit/s of the seconds that lie wholly between start and end."""
    rates = [interval["sum"]["bits_per_second"] for interval in report["intervals"]
             if interval["sum"]["start"] >= start and interval["sum"]["end"] <= end]
    return f"{sum(rates) / len(rates) / 1e6:.0f} Mbit/s" if rates else "unknown"


def summary(lab, report, times):
    """Say what was seen."""
    down, up = times
    total = report["end"]["sum_received"]
    link = lab.client.links[CUT - 1]
    say()
    say(f"iperf3 got {total['bytes'] / 1e6:.0f} MB in {total['seconds']:.0f} s "
        "over one connection that never broke:")
    # The first second is slow start, and the last ones may be the recovery.
    rows = ((f"{mean_rate(report, 1, down)}", f"with {lab.links} links of {lab.rate}"),
            (f"{mean_rate(report, down + 1, up)}", f"while {link} was down"),
            (f"{mean_rate(report, total['seconds'] - 3.5, total['seconds'] + 1)}",
             f"at the end, with {link} back"))
    for rate, when in rows:
        say(f"  {rate:>12}  {when}")
    say(f"{link} was down for {up - down:.0f} s. Its subflow stays; after the link is up again it "
        "carries data\nfrom the next retransmission on, and those are the rarer the longer it was "
        "down.")


def shell(lab, family):
    """Leave the user on the client."""
    settings(lab, family)
    # What differs from host to host is the namespaces and where pmcd is.
    server = " ".join(lab.server.command("env", f"PMCD_SOCKET={lab.server.pcp_socket}"))
    server_address = lab.server.address_of(1, family)
    say(f"""
You are on the client; a function named "server" runs commands on the server.
For example:

  server mptcpize run iperf3 -s -D
  mptcpize run iperf3 -c {server_address} -R -t30 &
  pmrep mptcp.subflows network.interface.in.bytes -t2
  ss -tni
  ip link set enp3s0 down

"exit" ends the lab.
""")
    rc = lab.work / "bashrc"
    rc.write_text(f"PS1='client# '\nserver() {{ {server} \"$@\"; }}\n", encoding="utf-8")
    # Ctrl-C is for what runs in the shell.
    before = signal.signal(signal.SIGINT, lambda *unused: None)
    try:
        subprocess.call(lab.client.command("bash", "--rcfile", rc, "-i"), env=lab.client.env)
    finally:
        signal.signal(signal.SIGINT, before)


def parse(argv):
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 tests/lab", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30, metavar="N",
                        help="how long iperf3 runs, at least 10 (default: %(default)s)")
    parser.add_argument("--family", type=int, choices=(4, 6), default=4,
                        help="IPv4 or IPv6 (default: %(default)s)")
    parser.add_argument("--shell", action="store_true",
                        help="build the lab and start a shell on the client instead")
    parser.add_argument("--cleanup", action="store_true",
                        help="only remove what killed labs left behind")
    options = parser.parse_args(argv)
    if options.seconds < 10:
        parser.error("--seconds: at least 10")
    return options


def main(argv=None):
    """Run the command; return the exit status."""
    options = parse(argv)
    if options.cleanup:
        for name in cleanup():
            say(f"removed {name}")
        return 0
    problems = missing()
    if problems:
        raise LabError("\n".join(problems))
    with Lab() as lab:
        say(f"Two hosts, client and server, with {lab.links} links: {', '.join(lab.client.links)}; "
            f"{lab.rate} each, round trip {2 * lab.delay_ms} ms.")
        for host in (lab.client, lab.server):
            host.start_pcp()
        if options.shell:
            shell(lab, options.family)
            return 0
        summary(lab, *play(lab, options.seconds, options.family))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as problem:
        sys.exit(f"lab: {problem}")
    except Terminated as end:
        sys.exit(128 + end.signum)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # for example: | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
