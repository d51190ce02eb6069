# SPDX-License-Identifier: GPL-2.0-or-later
"""`pcp mptcp`: what Multipath TCP does on a host, from PCP's metrics alone, live or from an archive.

Data flows one way; a file imports only from those before it in this list:

    sample.py    the values of a moment
    source.py    PCP's client API: contexts, time windows, samples of values
    view.py      two samples as links, connections, subflows and endpoints, with rates
    checks.py    the health rules: findings about a view
    why.py       the diagnosis of one connection, address or port, in the order of the protocol
    timeline.py  what happened between samples
    text.py      numbers, tables, colours
    overview.py, tables.py, ...   what the commands print
    cli.py       options, commands, exit status
"""
