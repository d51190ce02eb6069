# SPDX-License-Identifier: GPL-2.0-or-later
"""Which module may use what: data flows one way, and the agent starts no programs."""

import ast
from pathlib import Path

import pmdamptcp
import pytest

PACKAGE = Path(pmdamptcp.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
PROGRAMS = {"subprocess", "multiprocessing", "pty", "commands", "pexpect", "asyncio"}
STARTERS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork")
PCP = {"pcp", "cpmda", "cpmapi", "cpmgui", "cpmi"}
MAY_USE_PCP = {"agent.py", "containers.py", "context.py", "indoms.py"}


def imports(name):
    """Modules that a file imports, those of this package by their path in it."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = [*Path(name).parts[: -node.level], node.module] if node.level else [node.module]
            module = ".".join(filter(None, parts))
            found |= {module} | {f"{module}.{alias.name}".strip(".") for alias in node.names if node.level}
    return found


def test_files_are_found():
    """Else this file would show nothing."""
    assert {"agent.py", "ledger.py", "kernel/sock_diag.py", "metrics/mib.py"} <= set(FILES)
    assert {"kernel.inet_diag", "typing"} <= imports("ledger.py")
    assert {"kernel.inet_diag", "snapshot", "metrics.Metric"} <= imports("metrics/connection.py")


@pytest.mark.parametrize("name", FILES)
def test_no_programs_are_started(name):
    """The kernel is asked, not ss or ip; an agent that forks is one that hangs, but for children without programs."""
    allowed = {"fork"} if name in ("owners.py", "namespaces.py", "helper.py") else set()
    assert not {one.split(".")[0] for one in imports(name)} & PROGRAMS
    for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr in allowed or not node.attr.startswith(STARTERS)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "__import__")


@pytest.mark.parametrize("name", [name for name in FILES if name not in MAY_USE_PCP])
def test_pcp_is_known_at_the_edge_only(name):
    """Readers, ledger, snapshot and tables run without it."""
    assert not {one.split(".")[0] for one in imports(name)} & PCP


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FILES
        if name.startswith("kernel/") or name in ("records.py", "stable_ids.py", "config.py", "privileges.py")
    ],
)
def test_readers_know_nothing_of_those_who_use_them(name):
    """No ledger, no snapshot, no tables."""
    users = ("flows", "ledger", "listener", "sample", "sampler", "source", "topology", "snapshot", "metrics", "agent",
             "indoms")
    assert not [one for one in imports(name) if set(one.split(".")) & set(users)]


@pytest.mark.parametrize(
    "name", ["flows.py", "ledger.py", "sample.py", "listener.py", "sampler.py", "topology.py", "services.py"]
)
def test_the_ledger_knows_no_snapshot(name):
    """Nor tables."""
    assert not [one for one in imports(name) if set(one.split(".")) & {"snapshot", "metrics", "agent"}]


@pytest.mark.parametrize("name", FILES)
def test_license(name):
    """Line one of each file."""
    first = (PACKAGE / name).read_text(encoding="utf-8").splitlines()[0]
    assert first == "# SPDX-License-Identifier: GPL-2.0-or-later"
