# SPDX-License-Identifier: GPL-2.0-or-later
"""Install and Remove on this very host, and every way in which they refuse.

The host is left as it was found. Where an MPTCP agent is installed already,
it is somebody's, and nothing here touches it.
"""
import os
import shlex

import pytest

from .host import (AGENT_LOG, CONFIG, NOBODY, PMDA_DIR, TOP, agent_pid, configured_agents, files, install, remove, run,
                   running_agents, start_pmcd, stop_pmcd, why_not_here)

if why_not_here():
    pytest.skip(why_not_here(), allow_module_level=True)


@pytest.fixture(scope="class", name="installed")
def fixture_installed(tmp_path_factory):
    """The agent, installed with a Python in front of PATH that cannot run it, as pyenv's."""
    shims = tmp_path_factory.mktemp("shims")
    shim = shims / "python3"
    shim.write_text("#!/bin/sh\nexit 1\n")
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}"}
    environment.pop("PCP_PYTHON_PROG", None)
    done = install(env=environment)
    assert done.returncode == 0, done.stdout
    yield done
    remove("--purge")


# ---------------------------------------------------------------- it works

def test_install_twice_and_remove_leaves_the_host_as_it_was():
    """The whole life of an installation, other agents and every file compared."""
    files_before = files()
    configured_before = configured_agents()

    first = install()
    assert first.returncode == 0, first.stdout
    agents_before = {name: status for name, status in running_agents().items() if name != "mptcp"}
    first_pid = agent_pid()
    print("first Install:\n" + first.stdout)

    second = install()
    assert second.returncode == 0, second.stdout
    assert running_agents() == {**agents_before, "mptcp": 0}
    assert len(first_pid) == len(agent_pid()) == 2, "the agent, and what looks up owners"
    assert not set(agent_pid()) & set(first_pid), "both are new after an upgrade"

    removed = remove()
    print("Remove:\n" + removed.stdout)
    assert removed.returncode == 0, removed.stdout
    assert running_agents() == agents_before, "other agents go on as before"
    assert configured_agents() == configured_before
    assert agent_pid() == []
    assert files() - files_before == set(), "files left behind"
    assert files_before - files() == set(), "files of others removed"

    again = remove()
    assert again.returncode == 0, again.stdout


class TestInstalled:
    """One installation, looked at from all sides."""

    def test_shows_the_main_job_last(self, installed):
        """Values of subflows and interfaces, then two lines on what to type next."""
        print(installed.stdout)
        lines = installed.stdout.splitlines()
        assert any(line.startswith("== pmrep mptcp.subflows network.interface.in.bytes -t2") for line in lines)
        assert any("n.i.i.bytes" in line for line in lines)
        assert "pmrep mptcp.subflows" in lines[-2] and "pminfo" in lines[-1]

    def test_runs_with_an_absolute_python(self, installed):
        """The shim did not become the agent's Python; pmrep users are told how to get around it."""
        command = configured_agents()["mptcp"][4]
        print("pmcd.conf has", command)
        assert os.path.isabs(command) and run(command, "-c", "import cpmda").returncode == 0
        assert f"PCP_PYTHON_PROG={command} pmrep" in installed.stdout

    def test_files_belong_to_root(self, installed):
        """pmcd starts the agent as root: whoever can write these files is root."""
        assert installed.returncode == 0
        for folder, folders, names in os.walk(PMDA_DIR):
            for path in (os.path.join(folder, name) for name in folders + names):
                status = os.lstat(path)
                assert status.st_uid == 0, path
                assert os.path.islink(path) or not status.st_mode & 0o022, path

    def test_upgrade(self, installed):
        """Modules of the old version go, an edited configuration stays."""
        assert installed.returncode == 0
        stale = PMDA_DIR / "pmdamptcp" / "stale_module.py"
        stale.write_text("")
        edited = CONFIG.read_text() + "# edited here\n"
        CONFIG.write_text(edited)
        assert install().returncode == 0
        assert not stale.exists()
        assert CONFIG.read_text() == edited

    def test_remove_keeps_the_edited_configuration(self, installed):
        """Removed for good only with --purge."""
        assert installed.returncode == 0
        CONFIG.write_text(CONFIG.read_text() + "# edited again\n")
        edited = CONFIG.read_text()
        said = remove().stdout
        assert CONFIG.read_text() == edited and f"{CONFIG} was edited and stays" in said
        assert remove("--purge").returncode == 0
        assert not CONFIG.parent.exists()


def test_install_and_remove_with_pmcd_down():
    """Install starts pmcd; Remove does without."""
    stop_pmcd()
    done = install()
    assert done.returncode == 0, done.stdout
    assert running_agents()["mptcp"] == 0
    stop_pmcd()
    gone = remove()
    assert gone.returncode == 0, gone.stdout
    assert "mptcp" not in configured_agents() and not PMDA_DIR.exists()
    start_pmcd()
    assert set(running_agents().values()) == {0} and "mptcp" not in running_agents()


def test_dry_run_changes_nothing():
    """It says what it would do."""
    before = files()
    done = install("--dry-run")
    assert done.returncode == 0 and "Nothing was done" in done.stdout
    assert files() == before and not PMDA_DIR.exists()


# ------------------------------------------------------------- it says no

def hidden(setup, **environment):
    """Install where a mount in its own namespace hides something."""
    command = f"{setup} && exec {shlex.quote(str(TOP / 'Install'))}"
    return run("unshare", "-m", "sh", "-c", command, env={**os.environ, **environment})


def refused(done, status, text):
    """One clear line, its own status, and nothing installed."""
    print(f"status {done.returncode}: {done.stdout.splitlines()[-1]}")
    assert done.returncode == status, done.stdout
    assert text in done.stdout.splitlines()[-1]
    assert not PMDA_DIR.exists() and "mptcp" not in configured_agents()


def test_not_root():
    """An ordinary user."""
    done = run("sh", "-c", (TOP / "Install").read_text(), user=NOBODY, cwd="/")
    refused(done, 3, "only root")


def test_kernel_without_mptcp():
    """/proc/sys/net without mptcp."""
    refused(hidden("mount -t tmpfs none /proc/sys/net"), 4, "has no MPTCP")


def test_no_pcp_to_be_had(tmp_path):
    """PCP is not there, and the package manager fails."""
    for name in ("apt-get", "dnf", "yum", "dpkg-query", "rpm"):
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\nexit 100\n")
        tool.chmod(0o755)
    refused(hidden("mount --bind /dev/null /etc/pcp.env", PATH=f"{tmp_path}:{os.environ['PATH']}"),
            5, "could not install pcp")


def test_no_usable_python(tmp_path):
    """Every Python lacks PCP's module, though the packages are installed."""
    module = run(os.environ.get("PCP_PYTHON_PROG", "/usr/bin/python3"), "-c",
                 "import cpmda; print(cpmda.__file__)").stdout.strip()
    (tmp_path / "empty").write_text("")
    refused(hidden(f"mount --bind {tmp_path}/empty {shlex.quote(module)}"), 6, "cpmda")


@pytest.mark.parametrize("line, text", [("other 262", "other with domain 262"),
                                        ("mptcp 166", "mptcp with domain 166")])
def test_name_or_number_taken(tmp_path, line, text):
    """PCP's own Install would throw the other agent out."""
    conf = tmp_path / "pmcd.conf"
    conf.write_text(f"root 1 pipe binary /root\n{line} pipe binary /other\n\n[access]\nallow x 262 : all;\n")
    refused(install(env={**os.environ, "PCP_PMCDCONF_PATH": str(conf)}), 7, text)


def test_directory_of_somebody_else():
    """An agent of the same name that came another way."""
    PMDA_DIR.mkdir()
    try:
        done = install()
        gone = remove()
        assert gone.returncode == 1 and "leaving it alone" in gone.stdout
    finally:
        PMDA_DIR.rmdir()
    refused(done, 7, "move it away")


def test_agent_that_does_not_start(tmp_path):
    """The last lines of its log are on the screen, and the status is not 0."""
    copy = tmp_path / "a tree"
    run("cp", "-a", str(TOP), str(copy))
    script = copy / "pmda-mptcp" / "pmdamptcp.python"
    # It still tells its name space to PCP's Install, and dies under pmcd.
    shebang, rest = script.read_text().split("\n", 1)
    script.write_text(f"""{shebang}
import os
if not {{"PCP_PYTHON_DOMAIN", "PCP_PYTHON_PMNS"}} & set(os.environ):
    raise SystemExit("broken on purpose")
{rest}""")
    done = run(str(copy / "Install"))
    print(done.stdout[-600:])
    assert done.returncode == 9
    assert "broken on purpose" in done.stdout
    assert "delivers no values" in done.stdout.splitlines()[-1]
    assert remove("--purge").returncode == 0
    assert "mptcp" not in running_agents() and not AGENT_LOG.exists()


def test_unknown_option():
    """Wrong use is status 2, for both."""
    assert install("--frobnicate").returncode == 2
    assert remove("--frobnicate").returncode == 2
