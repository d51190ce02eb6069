# SPDX-License-Identifier: GPL-2.0-or-later
"""What root executes and reads of an installed agent is root's, and the user pcp gets no code into it.

The agent is started as root by pmcd, in a directory that is the user pcp's.
"""
import os
import pathlib
import pwd
import signal
import stat
import time

import pytest

from .host import AGENT_LOG, CONFIG, PCP, PMDA_DIR, agent_pid, install, remove, run, running_agents, why_not_here

if why_not_here():
    pytest.skip(why_not_here(), allow_module_level=True)

USER = PCP.get("PCP_USER", "pcp")
WORKING = AGENT_LOG.parent
MODULES = ("pcp.py", "cpmapi.py", "psutil.py", "pyroute2.py", "ctypes.py", "json.py", "sitecustomize.py",
           "usercustomize.py", "pmdamptcp.py", "encodings.py")


@pytest.fixture(scope="module", autouse=True)
def fixture_installed():
    """The agent."""
    done = install()
    assert done.returncode == 0, done.stdout
    yield
    remove("--purge")


def restart():
    """A new start of the agent, as pmcd does it: by root."""
    before = agent_pid()
    for pid in before:
        os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: not set(before) & set(agent_pid()), "ended")
    run(PCP["PCP_BINADM_DIR"] + "/pmsignal", "-a", "-s", "HUP", "pmcd")
    wait_until(lambda: running_agents().get("mptcp") == 0 and len(agent_pid()) == 2, "started")


def wait_until(condition, what):
    """Within half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"not {what}: {running_agents()} {agent_pid()}"
        time.sleep(0.2)


def parents(path):
    """A path and all directories above it, links followed as the kernel does."""
    path = pathlib.Path(os.path.realpath(path))
    return [path, *path.parents]


def test_nothing_that_is_executed_or_read_can_be_changed():
    """Nor replaced: files, their directories up to /, what Python compiled, and the links to them."""
    manifest = (PMDA_DIR / ".files").read_text(encoding="utf-8").split()
    found = {PMDA_DIR, CONFIG, CONFIG.parent, pathlib.Path(PCP["PCP_PMCDCONF_PATH"]),
             PMDA_DIR / "pmdamptcp" / "agent.py", *PMDA_DIR.rglob("*"), *map(pathlib.Path, manifest)}
    compiled = [path for path in found if path.suffix == ".pyc"]
    checked = {one for path in found for one in [path, *parents(path), *path.parents] if os.path.lexists(one)}
    bad = []
    for path in checked:
        about = path.lstat()
        if about.st_uid != 0 or (not stat.S_ISLNK(about.st_mode) and about.st_mode & 0o022
                                 and not about.st_mode & stat.S_ISVTX):
            bad.append(f"{stat.filemode(about.st_mode)} {about.st_uid}:{about.st_gid} {path}")
    print(f"{len(checked)} files and directories, {len(compiled)} compiled")
    assert not bad, "\n".join(sorted(bad))


def test_no_code_from_the_working_directory(tmp_path):
    """Modules with the names of those that the agent imports, put by pcp where the agent runs: none is loaded."""
    user = pwd.getpwnam(USER)
    assert (WORKING.stat().st_uid, WORKING.stat().st_uid == 0) == (user.pw_uid, False), "that is PCP's, not ours"
    witness = tmp_path / "witness"
    code = f"import os\nopen({str(witness)!r}, 'a').write(f'{{os.geteuid()}} {{__file__}}\\n')\n"
    planted = [WORKING / name for name in MODULES]
    for path in planted:
        assert not path.exists()
    try:
        for path in planted:
            path.write_text(code, encoding="utf-8")
            os.chown(path, user.pw_uid, user.pw_gid)
        restart()
        for pid in agent_pid():
            assert os.readlink(f"/proc/{pid}/cwd") == str(WORKING)
        assert not witness.exists(), witness.read_text(encoding="utf-8")
    finally:
        for path in planted:
            path.unlink()


def test_the_environment_of_root_s_python():
    """Nothing in it leads to code: what pmcd was started with is what the agent has."""
    for pid in agent_pid():
        names = {word.split("=", 1)[0] for word in
                 pathlib.Path(f"/proc/{pid}/environ").read_text(encoding="utf-8", errors="replace").split("\0")}
        assert not names & {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONUSERBASE",
                            "LD_PRELOAD", "LD_LIBRARY_PATH", "PMDAMPTCP_CONFIG"}


def test_the_log_does_not_lead_root_elsewhere():
    """It is opened as pcp: what pcp could not write, a link does not make root write."""
    restart()
    about = AGENT_LOG.stat()
    print(f"{AGENT_LOG}: {pwd.getpwuid(about.st_uid).pw_name} {stat.filemode(about.st_mode)}")
    assert about.st_uid == pwd.getpwnam(USER).pw_uid
    assert "running as" in AGENT_LOG.read_text(encoding="utf-8")
