# SPDX-License-Identifier: GPL-2.0-or-later
"""`pcp mptcp`: what Multipath TCP does on a host, from PCP's metrics alone, live or from an archive.

Data flows one way; a file imports only from those before it in this list:

    sample.py            the values of a moment
    reader.py            PCP's client API: metrics and records
    source.py            a host or an archive, the time window, samples of it
    text.py              numbers, tables, colours
    between.py           what counters did between two samples
    rows.py, view.py     two samples as links, connections, subflows and endpoints, with rates
    checks.py            the health rules: findings about a view
    overview.py, tables.py          what the commands print
    case.py, steps.py, why.py       the diagnosis: what is asked about, the protocol's steps, the verdict
    timeline.py          the story between samples: changes.py, comings.py, losses.py,
                         traffic.py find what it tells
    arguments.py, screen.py, cli.py     the command line
"""
