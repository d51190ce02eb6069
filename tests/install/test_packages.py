# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages, built from the last commit: installed, upgraded and removed in a root of their own, and linted.

A host of Debian stands in for one of Fedora, with a link where Fedora has PCP's
programs, and rpm told that what Debian installed is there.
"""
import os
import re
import shutil
import subprocess

import pytest

from .host import TOP, run, why_not_here
from .throwaway import Root

CONFIG = "/etc/pcp/mptcp/mptcp.conf"
GROUP = "/etc/pcp/pmlogconf/mptcp/summary"
PMDA_DIR = "/var/lib/pcp/pmdas/mptcp"
PMCD_CONF = "/etc/pcp/pmcd/pmcd.conf"
LOG = "/var/log/pcp/pmcd/mptcp.log"

BUILDERS = {"deb": ("dpkg-buildpackage", "dh_python3"), "rpm": ("rpmbuild",)}

DEB = {"install": "dpkg -i", "remove": "dpkg -r pcp-pmda-mptcp"}
RPM = {"install": "rpm -U --nodeps", "remove": "rpm -e pcp-pmda-mptcp"}


def missing(kind):
    """A reason why this cannot be tested here, or None."""
    if why_not_here():
        return why_not_here()
    if not shutil.which("dpkg"):
        return "the throw-away root is made from a host of Debian"
    absent = [tool for tool in BUILDERS[kind] if not shutil.which(tool)]
    return f"{', '.join(absent)} missing: tests/run installs what builds packages" if absent else None


needs_deb, needs_rpm = (pytest.mark.skipif(bool(missing(kind)), reason=str(missing(kind))) for kind in BUILDERS)


@pytest.fixture(scope="module", name="host", autouse=True)
def fixture_host():
    """Not the host of the other tests: its pmcd is left alone."""


@pytest.fixture(scope="module", name="packages")
def fixture_packages(tmp_path_factory):
    """Where the packages are: of this version and of the next, each built once."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in BUILDERS:
        if not missing(kind):
            for version in ((), ("-v", "9.9.9")):
                done = run(str(TOP / "packaging" / kind), *version, str(folder))
                assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(name="root")
def fixture_root(tmp_path, packages):
    """A root with pmcd running."""
    root = Root(tmp_path, packages, TOP)
    root.sh("/etc/init.d/pmcd start")
    root.wait_for("pminfo -f pmcd.version", "pmcd does not start")
    yield root
    root.close()


def package(packages, suffix, version="0"):
    """The path in the root of the package of a version that begins so."""
    name, = (path.name for path in packages.glob(f"*{suffix}") if re.search(rf"mptcp[-_]{version}", path.name))
    return f"/mnt/packages/{name}"


def agents(root):
    """What pmcd says of its agents: name -> status."""
    return dict(re.findall(r'or "(\w+)"\] value (\d+)', root.sh("pminfo -f pmcd.agent.status")))


def agent_pids(root):
    """The processes of the agent."""
    return set(root.run("pgrep", "-f", f"{PMDA_DIR}/pmdamptcp.python").stdout.split())


def edit(root, *names):
    """As an administrator does."""
    for name in names:
        path = root.path(name)
        path.write_text(path.read_text(encoding="utf-8") + "# edited here\n", encoding="utf-8")


def edited(root, *names):
    """Whether all of these are still as the administrator left them."""
    return all(root.path(name).read_text(encoding="utf-8").endswith("# edited here\n") for name in names)


def check_works(root):
    """The agent answers, under pmcd, and its client finds it."""
    assert agents(root).get("mptcp") == "0", root.run("cat", LOG).stdout
    assert "value" in root.sh("pminfo -f mptcp.sysctl.enabled mptcp.subflows")
    assert "MPTCP" in root.sh("PCP_PYTHON_PROG=/usr/bin/python3 pcp mptcp -s 1")
    assert "pmdamptcp" in root.sh("man -w pmdamptcp pcp-mptcp")


@needs_deb
def test_life_of_the_deb(root, packages):
    """pmlogger takes it up; an upgrade keeps what was edited; removal takes it all back, purge the configuration."""
    root.sh("/etc/init.d/pmlogger start")
    root.wait_for("test -s /run/pcp/pmlogger.pid", "pmlogger does not start")
    configured = root.path(PMCD_CONF).read_text(encoding="utf-8")
    agents_before, before = agents(root), root.changed()

    said = root.sh(f"{DEB['install']} {package(packages, '.deb')}")
    print(said, root.run("cat", LOG, "/var/log/pcp/pmcd/pmcd.log").stdout)
    assert "pcp-pmda-mptcp: the agent runs" in said and "pmlogger was started anew, with MPTCP" in said
    check_works(root)
    assert "/usr/bin/python3 /var/lib/pcp/pmdas/mptcp" in root.path(PMCD_CONF).read_text(encoding="utf-8")
    assert "pcp-pmda-mptcp is installed here" in root.sh("/mnt/source/Install", status=7)

    old = agent_pids(root)
    edit(root, CONFIG, GROUP)
    root.sh(f"{DEB['install']} {package(packages, '.deb', '9.9.9')}")
    check_works(root)
    assert edited(root, CONFIG, GROUP)
    assert old and agent_pids(root) and not old & agent_pids(root), "the new version runs, and nothing of the old"

    said = root.sh(DEB["remove"])
    print(said)
    assert "pmlogger was started anew, without MPTCP" in said
    assert root.path(PMCD_CONF).read_text(encoding="utf-8") == configured
    assert agents(root) == agents_before and not agent_pids(root)
    assert edited(root, CONFIG, GROUP)
    left = {name for name in root.changed() - before if not name.startswith(("/etc/", "/var/log/pcp/pmlogger"))}
    assert left == {"/var/lib/dpkg/info/pcp-pmda-mptcp.list"} | {name for name in left if name.endswith("-old")}
    root.sh("dpkg -P pcp-pmda-mptcp")
    left = {name for name in root.changed() - before if "mptcp" in name or name.startswith("/etc/")}
    assert left == set(), "left behind by purge"
    root.sh("kill -0 $(cat /run/pcp/pmlogger.pid)")


@needs_rpm
def test_life_of_the_rpm(root, packages):
    """Installed while pmcd is down, the agent comes with its start; then as the other."""
    root.sh("ln -s /usr/lib/pcp /usr/libexec/pcp; rpm --initdb")
    configured = root.path(PMCD_CONF).read_text(encoding="utf-8")
    agents_before, before = agents(root), root.changed()
    root.sh("/etc/init.d/pmcd stop")

    said = root.sh(f"{RPM['install']} {package(packages, '.rpm')}")
    assert "once it starts, it registers the agent" in said, said
    root.sh("/etc/init.d/pmcd start")
    root.wait_for("pminfo -f mptcp.subflows | grep value", "pmcd's start did not register the agent")
    check_works(root)
    assert "pcp-pmda-mptcp is installed here" in root.sh("/mnt/source/Install", status=7)

    edit(root, CONFIG)
    root.sh(f"{RPM['install']} {package(packages, '.rpm', '9.9.9')}")
    check_works(root)
    assert edited(root, CONFIG)

    root.sh(RPM["remove"])
    assert root.path(PMCD_CONF).read_text(encoding="utf-8") == configured
    assert agents(root) == agents_before and not agent_pids(root)
    left = {name for name in root.changed() - before if "mptcp" in name or name.startswith(("/etc/", "/usr/"))}
    assert left - {PMCD_CONF} == {CONFIG + ".rpmsave"}, "only what was edited; PCP wrote its own file"


@needs_deb
@needs_rpm
def test_refuses_beside_install(root, packages):
    """Where ./Install has been, a package does not come, and says what to do; nothing has changed."""
    root.sh(f"mkdir -p {PMDA_DIR} && touch {PMDA_DIR}/.files && rpm --initdb")
    before = root.changed()
    for install, name in ((DEB["install"], package(packages, ".deb")), (RPM["install"], package(packages, ".rpm"))):
        done = root.run("sh", "-c", f"{install} {name}")
        assert done.returncode != 0 and "run its ./Remove first" in done.stdout, done.stdout
    assert root.changed() - before == set()


@needs_deb
@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is missing: tests/run installs it")
def test_lintian(packages):
    """Not a word, with what debian/ explains."""
    name, = packages.glob("*mptcp_0*.deb")
    done = run("lintian", "--allow-root", "--fail-on", "error,warning", str(name))
    assert (done.returncode, done.stdout) == (0, "")


@needs_rpm
@pytest.mark.skipif(not shutil.which("rpmlint"), reason="rpmlint is missing: tests/run installs it")
def test_rpmlint(packages):
    """Not a word, with what packaging/rpmlint.toml explains."""
    name, = packages.glob("*mptcp-0*.rpm")
    done = run("rpmlint", "-c", str(TOP / "packaging/rpmlint.toml"), str(name),
               str(TOP / "packaging/pcp-pmda-mptcp.spec"), cwd=packages)
    assert " 0 errors, 0 warnings" in done.stdout, done.stdout


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_wrong_use(kind):
    """Status 2."""
    assert run(str(TOP / "packaging" / kind), "-x").returncode == 2


def test_builds_the_commit_only(tmp_path, packages):
    """Of both kinds the same twice: nothing of the clock or of the working tree gets in."""
    assert packages
    for kind in (kind for kind in BUILDERS if not missing(kind)):
        done = run(str(TOP / "packaging" / kind), str(tmp_path), env={**os.environ, "TZ": "Asia/Tokyo"})
        assert done.returncode == 0, done.stdout
    for again in tmp_path.iterdir():
        assert subprocess.run(["cmp", again, packages / again.name], check=False).returncode == 0, again.name
