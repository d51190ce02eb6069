# SPDX-License-Identifier: GPL-2.0-or-later
"""The client side: every file to its place and back, edited configuration kept, nothing of others touched."""
import os
import pathlib
import shutil

import pytest

from .host import PCP, PMDA_DIR, TOP, configured_agents, files, remove, run, why_not_here

if why_not_here():
    pytest.skip(why_not_here(), allow_module_level=True)

ETC, SHARE, VAR = (pathlib.Path(PCP[name]) for name in ("PCP_SYSCONF_DIR", "PCP_SHARE_DIR", "PCP_VAR_DIR"))
COMPLETIONS = pathlib.Path(PCP["PCP_ETC_DIR"], "bash_completion.d")

# Part of the source tree -> where it belongs, its mode, and what it says if the tree has no such part.
PARTS = {
    "pcp-mptcp": (pathlib.Path(PCP["PCP_BINADM_DIR"], "pcp-mptcp"), 0o755, "#!/bin/sh\n"),
    "pcp_mptcp/__init__.py": (SHARE / "mptcp/pcp_mptcp/__init__.py", 0o644, ""),
    "pcp_mptcp/below/__init__.py": (SHARE / "mptcp/pcp_mptcp/below/__init__.py", 0o644, ""),
    "pcp-mptcp.1": (pathlib.Path(PCP["PCP_MAN_DIR"], "man1/pcp-mptcp.1"), 0o644, ".TH PCP-MPTCP 1\n"),
    "pcp-mptcp.bash": (COMPLETIONS / "pcp-mptcp", 0o644, "complete -W 'events why check' pcp pcp-mptcp\n"),
    "MPTCP.pmchart": (VAR / "config/pmchart/MPTCP", 0o644, "#kmchart\nversion 1\n"),
    "etc/pmrep/mptcp.conf": (ETC / "pmrep/mptcp.conf", 0o644, "[mptcp]\n"),
    "etc/dstat/mptcp": (ETC / "dstat/mptcp", 0o644, "[mptcp]\n"),
    "etc/pmlogconf/mptcp/summary": (ETC / "pmlogconf/mptcp/summary", 0o644, None),
    "etc/pmieconf/mptcp/of_a_test": (ETC / "pmieconf/mptcp/of_a_test", 0o644, "#pmieconf-rules 1\n"),
}
LINKS = {VAR / "config" / part[4:]: place for part, (place, _, _) in PARTS.items() if "conf/mptcp/" in part}


def all_files():
    """As `files`, with bash's completions, and without logs of processes before the last one."""
    return {name for name in files() if not name.endswith(".prev")} | set(map(str, COMPLETIONS.iterdir()))


@pytest.fixture(name="tree")
def fixture_tree(tmp_path):
    """A copy of the source tree that has all parts, in a directory with a space in its name."""
    copy = tmp_path / "a tree"
    shutil.copytree(TOP, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    for part, (_, mode, text) in PARTS.items():
        path = copy / "pmda-mptcp" / part
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)
    yield copy
    remove("--purge")


def install(tree):
    """Run Install of a tree; it must succeed."""
    done = run(str(tree / "Install"))
    assert done.returncode == 0, done.stdout
    return done.stdout


def check_places(tree):
    """Each part is where it belongs, root's, and as it is in the tree."""
    for part, (place, mode, _) in PARTS.items():
        status = place.stat()
        assert (status.st_mode & 0o777, status.st_uid) == (mode, 0), place
        assert place.read_bytes() == (tree / "pmda-mptcp" / part).read_bytes(), place
    for link, place in LINKS.items():
        assert link.is_symlink() and link.resolve() == place, link


def test_all_parts_come_and_go(tree):
    """Twice the same; then an older version's leftovers go, and Remove leaves nothing."""
    before = all_files()
    install(tree)
    check_places(tree)
    installed = all_files()
    install(tree)
    check_places(tree)
    assert all_files() == installed

    # A newer version without some of them, on a host where root has run the command.
    run("/usr/bin/python3", "-c", f"import sys; sys.path.insert(0, '{SHARE}/mptcp'); import pcp_mptcp.below")
    gone = ["pcp_mptcp/below/__init__.py", "MPTCP.pmchart", "etc/dstat/mptcp", "etc/pmieconf/mptcp/of_a_test"]
    for part in gone:
        (tree / "pmda-mptcp" / part).unlink()
    install(tree)
    for part in gone:
        assert not PARTS[part][0].exists(), part
    assert not PARTS[gone[0]][0].parent.exists(), "an empty directory, or compiled modules"
    assert not os.path.lexists(VAR / "config/pmieconf/mptcp/of_a_test")

    done = run(str(tree / "Remove"))
    assert done.returncode == 0 and "edited" not in done.stdout, done.stdout
    assert all_files() - before == set(), "left behind"
    assert before - all_files() == set(), "taken from others"


def test_edited_configuration_stays(tree):
    """Over an Install and over a Remove; --purge takes it, whoever asks."""
    before = all_files()
    install(tree)
    edited = {PARTS[part][0] for part in ("etc/pmrep/mptcp.conf", "etc/pmlogconf/mptcp/summary")}
    for path in edited:
        path.write_text(path.read_text() + "# mine\n")
    newer = tree / "pmda-mptcp/etc/pmlogconf/mptcp/summary"
    newer.write_text(newer.read_text() + "# of the next version\n")
    said = install(tree)
    for path in edited:
        assert f"{path} was edited and stays; the new one is {PMDA_DIR}/etc/" in said
        assert path.read_text().endswith("# mine\n")
    assert (PMDA_DIR / "etc/pmlogconf/mptcp/summary").read_bytes() == newer.read_bytes()

    said = run(str(tree / "Remove")).stdout
    for path in edited:
        assert path.read_text().endswith("# mine\n") and f"{path} was edited and stays" in said
    left = all_files() - before
    assert left == set(map(str, edited | {ETC / "pmlogconf/mptcp"})), "only these, and nothing that PCP reads"
    assert run(str(tree / "Remove"), "--purge").returncode == 0
    assert all_files() - before == set()


def test_file_of_somebody_else(tree):
    """A command of this name that came another way is not overwritten."""
    path = PARTS["pcp-mptcp"][0]
    path.write_text("another's\n")
    try:
        done = run(str(tree / "Install"))
        assert done.returncode == 7 and f"{path} exists" in done.stdout.splitlines()[-1], done.stdout
        assert path.read_text() == "another's\n" and "mptcp" not in configured_agents()
    finally:
        path.unlink()


@pytest.mark.skipif(not os.path.exists("/usr/share/bash-completion/bash_completion"), reason="no bash-completion here")
def test_bash_completes_both_names(tree):
    """In a new shell, without PCP's own completions being lost."""
    install(tree)
    done = run("bash", "--norc", "-c", ". /usr/share/bash-completion/bash_completion; "
               "_completion_loader pmrep; complete -p pcp pcp-mptcp pmrep")
    print(done.stdout)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3
