# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the dashboards next to this package, or says whether they are as they would be written.

    python3 -m dashboards.generator [--check]

needs what requirements.txt names.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Dict

HERE = Path(__file__).resolve().parent
if not __package__:  # run by its path
    sys.path.insert(0, str(HERE.parents[1]))
    __package__ = "dashboards.generator"

#: Modules that make a dashboard (DASHBOARD, or a dict of them by file name); the file is named as its uid.
MODULES = ("overview", "interface", "connections", "connection", "troubleshooting", "agent",
           "history", "fleet", "prometheus")


def generated() -> Dict[str, str]:
    """The text of each dashboard by its file name."""
    look = importlib.import_module(".look", __package__)
    made = [importlib.import_module("." + name, __package__).DASHBOARD for name in MODULES]
    return {f"{one['uid']}.json": look.text_of(one) for one in made}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m dashboards.generator", description="makes the dashboards")
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a file would change")
    parser.add_argument("--into", type=Path, default=HERE.parent, metavar="DIRECTORY")
    args = parser.parse_args()
    changed = []
    for name, text in generated().items():
        path = args.into / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(name)
            if not args.check:
                path.write_text(text, encoding="utf-8")
    if changed:
        print("\n".join(f"{'differs' if args.check else 'written'}: {name}" for name in changed))
    return 1 if changed and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
