# SPDX-License-Identifier: GPL-2.0-or-later
"""pmlogger and pmie of this host take MPTCP up with Install and drop it with Remove; nothing else happens to them."""
import os
import pathlib
import re
import shutil
import time

import pytest

from .host import PCP, TOP, install, remove, run, why_not_here

if why_not_here():
    pytest.skip(why_not_here(), allow_module_level=True)

SYSTEMD = os.path.isdir("/run/systemd/system")
RUNNING = pathlib.Path(PCP["PCP_RUN_DIR"])
GENERATED = {daemon: pathlib.Path(PCP["PCP_VAR_DIR"], "config", daemon, "config.default")
             for daemon in ("pmlogger", "pmie")}
BY_HAND = "log mandatory on 1 sec {\n\tkernel.all.load\n}\n"


def wait_for(condition, what, seconds=20):
    """Until it is true; what it said then."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.2)
    return result


def pid_of(daemon):
    """The process of this host's daemon, or None."""
    try:
        pid = (RUNNING / f"{daemon}.pid").read_text(encoding="ascii").strip()
        comm = pathlib.Path("/proc", pid, "comm").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return pid if comm == daemon else None


def service(daemon, verb):
    """Start or stop it the way this host does."""
    if SYSTEMD:
        run("systemctl", verb, daemon)
    else:
        run(f"{PCP['PCP_RC_DIR']}/{daemon}", verb)
    wait_for(lambda: bool(pid_of(daemon)) == (verb == "start"), f"{daemon} does not {verb}")


def archive():
    """What the primary pmlogger writes now."""
    about = pathlib.Path(PCP["PCP_TMP_DIR"], "pmlogger", pid_of("pmlogger")).read_text(encoding="utf-8")
    return about.splitlines()[2]


def recorded(path, metric):
    """How many values of a metric an archive holds."""
    return len(re.findall(r"\bvalue ", run("pmdumplog", path, metric).stdout))


def log_of(daemon):
    """What it said, for a message."""
    return "".join(path.read_text(encoding="utf-8")[-1000:]
                   for path in pathlib.Path(PCP["PCP_LOG_DIR"], daemon).glob(f"*/{daemon}.log"))


@pytest.fixture(name="daemons")
def fixture_daemons():
    """Both of them running; afterwards as before, with nothing left of the test."""
    before = {path: set(path.rglob("*")) for path in
              (pathlib.Path(PCP["PCP_LOG_DIR"], daemon) for daemon in GENERATED)}
    configured = {path: path.read_bytes() if path.exists() else None for path in GENERATED.values()}
    ran = {daemon: pid_of(daemon) for daemon in GENERATED}
    for daemon, pid in ran.items():
        if not pid:
            service(daemon, "start")
    yield
    remove("--purge")
    for daemon, pid in ran.items():
        if pid_of(daemon) and not pid:
            service(daemon, "stop")
    for path, content in configured.items():
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
    if not any(ran.values()):
        for path, known in before.items():
            remove_new(path, known)


def remove_new(directory, known):
    """Delete what a directory did not have before."""
    for path in sorted(set(directory.rglob("*")) - known, reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def test_pmlogger_records_mptcp_from_install_to_remove(daemons):
    """In the archive within seconds, beside what was there before; gone with Remove, and pmlogger goes on."""
    assert not recorded(archive(), "mptcp.connections")
    installed = install()
    assert "pmlogger was started anew, with MPTCP" in installed.stdout, installed.stdout
    for metric in ("mptcp.connections", "mptcp.interface.up", "mptcp.mib.mpcapablesynrx", "mptcp.sysctl.enabled",
                   "kernel.all.load"):
        wait_for(lambda: recorded(archive(), metric), lambda: f"no {metric}: {log_of('pmlogger')}")
    assert not recorded(archive(), "mptcp.subflow.rtt"), "each subflow only if asked for"

    # The detail that an administrator asked for stays over an upgrade, which starts pmlogger anew.
    config = GENERATED["pmlogger"]
    config.write_text(config.read_text().replace("#+ mptcp/subflows:n:", "#+ mptcp/subflows:y:"))
    old = archive()
    assert install().returncode == 0
    assert "#+ mptcp/subflows:y:" in config.read_text() and archive() != old
    wait_for(lambda: recorded(archive(), "mptcp.connections"), lambda: log_of("pmlogger"))

    removed = remove()
    assert removed.returncode == 0 and "pmlogger was started anew, without MPTCP" in removed.stdout, removed.stdout
    assert "mptcp" not in config.read_text()
    wait_for(lambda: recorded(archive(), "kernel.all.load"), lambda: log_of("pmlogger"))
    assert not recorded(archive(), "mptcp.connections")
    assert recorded(old, "mptcp.connections"), "what was recorded is kept"


def test_configuration_written_by_hand_stays(daemons):
    """pmlogger with such a one is not even started anew."""
    service("pmlogger", "stop")
    GENERATED["pmlogger"].write_text(BY_HAND)
    service("pmlogger", "start")
    pid = pid_of("pmlogger")
    for done in (install(), remove()):
        assert done.returncode == 0, done.stdout
        assert f"pmlogger has a configuration that PCP does not generate, {GENERATED['pmlogger']}" in done.stdout
        assert GENERATED["pmlogger"].read_text() == BY_HAND and pid_of("pmlogger") == pid
    count = recorded(archive(), "kernel.all.load")
    wait_for(lambda: recorded(archive(), "kernel.all.load") > count, lambda: log_of("pmlogger"))


def test_nothing_is_started(daemons):
    """Where neither runs, neither runs afterwards; pmlogger takes the groups up when it is started one day."""
    for daemon in GENERATED:
        service(daemon, "stop")
    done = install()
    assert done.returncode == 0 and "pmlogger does not run here" in done.stdout, done.stdout
    assert not pid_of("pmlogger") and not pid_of("pmie")
    service("pmlogger", "start")
    wait_for(lambda: recorded(archive(), "mptcp.connections"), lambda: log_of("pmlogger"))
    assert remove().returncode == 0


def test_remove_while_pmcd_is_down(daemons):
    """pmlogger waits for pmcd then; it is left waiting, as nothing could start it."""
    assert install().returncode == 0
    pid = pid_of("pmlogger")
    service("pmcd", "stop")
    done = remove()
    assert done.returncode == 0 and "pmlogger stays as it is while pmcd is down" in done.stdout, done.stdout
    assert pid_of("pmlogger") == pid
    service("pmcd", "start")


def test_pmie_takes_rules_up(daemons, tmp_path):
    """And forgets them without a trace; whether it runs at that time or not."""
    tree = tmp_path / "a tree"
    shutil.copytree(TOP, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    rule = tree / "pmda-mptcp/etc/pmieconf/mptcp/of_a_test"
    rule.parent.mkdir(parents=True, exist_ok=True)
    known = pathlib.Path(PCP["PCP_VAR_DIR"], "config/pmieconf/shping/status").read_text(encoding="utf-8")
    rule.write_text(known.replace("shping.status", "mptcp.of_a_test", 1).replace("shping.status", "mptcp.subflows")
                    .replace("= no\n", "= yes\n", 1))
    config = GENERATED["pmie"]
    before = config.read_text()
    for running in (True, False):
        old = pid_of("pmie")
        done = run(str(tree / "Install"))
        assert "pmie was started anew, with MPTCP" in done.stdout and old != pid_of("pmie"), done.stdout
        assert "// 1 mptcp.of_a_test\n" in config.read_text()
        if not running:
            service("pmie", "stop")
        done = run(str(tree / "Remove"))
        assert done.returncode == 0 and bool(pid_of("pmie")) == running, done.stdout
        assert "pmie was started anew, without MPTCP" in done.stdout or not running
        assert [line for line in config.read_text().splitlines() if "Auto-generated" not in line] == \
            [line for line in before.splitlines() if "Auto-generated" not in line]
        assert "mptcp" not in config.read_text()
