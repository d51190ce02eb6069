# SPDX-License-Identifier: GPL-2.0-or-later
"""The dashboards, opened on the real services for two hosts with traffic."""

import contextlib
import re
import time
from types import SimpleNamespace

from . import grafana, wait_for
from .grafana_history import Prom, Valkey
from .pmcd import REPOSITORY
from .services import Pmproxy, Prometheus, Redis, logs, pmlogconf, recorded

DASHBOARDS = REPOSITORY / "dashboards"
BOARDS = {path.stem: grafana.load(path) for path in sorted(DASHBOARDS.glob("*.json"))}
GOLDEN = [line.split("\t") for line in
          (REPOSITORY / "tests/unit/metrics.golden").read_text(encoding="utf-8").splitlines()]
NAMES = {row[0].replace(".", "_"): row[0] for row in GOLDEN}  # by those that Prometheus has
LINKS = {"enp1s0", "enp2s0", "enp3s0"}
HOSTS = ("client", "server")
#: Files and rules whose times are made shorter by this, so that minutes are seconds.
SPEED = 20


def faster(text):
    """A configuration of Prometheus in fast motion."""
    def shorter(match):
        return f"{max(1, int(match[1]) * (60 if match[2] == 'm' else 1) // SPEED)}s"
    return re.sub(r"(?<=[\[ ])(\d+)(s|m)\b", shorter, text)


def spec(host):
    """How pmproxy and pmlogger reach a host's pmcd.

    Not over the links: a pmcd that is slow behind a full link occupies pmproxy's few threads, and all others wait.
    """
    return f"unix:{host.pcp_socket}"


def prometheus(host):
    """As configured for a site, but that it scrapes the other host through this one's pmproxy, and all is faster."""
    scrape = faster((DASHBOARDS / "prometheus/scrape.yml").read_text(encoding="utf-8"))
    other = scrape.split("scrape_configs:\n")[1].replace("job_name: mptcp", "job_name: other").replace(
        "params:\n", f'params:\n      hostspec: ["{spec(host.peer)}"]\n')
    rules = faster((DASHBOARDS / "prometheus/rules.yml").read_text(encoding="utf-8"))
    return Prometheus(host, "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n" + scrape + other,
                      **{"rules.yml": rules})


def vector_pages(pmproxy, hosts, lenient=False):
    """Each live dashboard opened for each host, {name: spec}, and refreshed: {(board, host): (page, variables)}."""
    pages = {}
    for name, board in BOARDS.items():
        for host, address in hosts.items():
            if list(grafana.queries(board, grafana.Vector.plugin)):
                page = grafana.Vector(pmproxy, address)
                pages[name, host] = page, grafana.resolve(board, page.ask, prefer=LINKS, lenient=lenient)
    refresh(pages)
    time.sleep(1)
    refresh(pages)
    return pages


def refresh(pages):
    """As Grafana does every few seconds."""
    for (name, _), (page, variables) in pages.items():
        page.poll(page.exprs(BOARDS[name], variables))


def live_answers(pages, name=None):
    """The answers to a live dashboard, or to all, of all hosts."""
    return [answer for (board, _), (page, variables) in pages.items() if name in (None, board)
            for answer in page.answers(BOARDS[board], variables)]


@contextlib.contextmanager
def opened(lab):
    """All services, a path that was lost and found again, a download over three links, and new connections."""
    client, hosts = lab.client, (lab.client, lab.server)
    for host in hosts:
        (logs(client) / host.name).mkdir(parents=True)  # pmproxy may overlook what comes later
    config = pmlogconf(client, REPOSITORY / "pmda-mptcp/etc/pmlogconf", client.work / "groups.conf")
    config = re.sub(r"on (default|\d+ \w+) \{", "on 500 msec {", config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab.hold(3, payload=b"x" * 1000))
        for host in hosts:
            wait_for(lambda host=host: host.pminfo("mptcp.redundancy.connections")["3"] == 3, message="no joins")
        client.link_down(3)
        wait_for(lambda: client.pminfo("mptcp.subflows")["enp3s0"] == 0, message="the path is not lost")
        client.link_up(3)
        wait_for(lambda: client.pminfo("mptcp.redundancy.degraded_connections")[None] == 0, message="nor found again")
        lab.iperf3(seconds=300, reverse=True, parallel=2)
        for host in hosts:
            wait_for(lambda host=host: all(host.pminfo("mptcp.subflows")[link] == 6 for link in LINKS),
                     message=f"not all subflows on the {host.name}")
        # Only now that all links have subflows, and are recorded: pmproxy 6.0 has no name for an instance whose
        # first value comes later, and may overlook what is described while it reads.
        for host in hosts:
            stack.enter_context(recorded(client, host, config, spec(host)))
        stack.enter_context(Redis(client))
        pmproxy = stack.enter_context(Pmproxy(client, history=True))
        scraper = stack.enter_context(prometheus(client))
        found = SimpleNamespace(lab=lab, pmproxy=pmproxy, prometheus=scraper,
                                valkey=Valkey(pmproxy), prom=Prom(scraper))
        wait_for(lambda: all(len(source.ask(query)) == 2 for source, query in (
            (found.valkey, "label_values(hostname)"), (found.prom, "label_values(mptcp_connections, hostname)"))),
            message="the history or Prometheus lacks a host")
        time.sleep(3)  # of samples, to have rates from
        with lab.hold(5):
            time.sleep(1)
        found.pages = vector_pages(pmproxy, {host.name: spec(host) for host in hosts})
        found.answers = {name: answers(found, name) for name in BOARDS}
        yield found


def answers(scene, name):
    """Answers to all queries of a dashboard, for both hosts where a host is chosen."""
    board, found = BOARDS[name], live_answers(scene.pages, name)
    for host in HOSTS:
        found += scene.valkey.answers(board, chosen(scene.valkey, board, host), 4)
    return found + scene.prom.answers(board, chosen(scene.prom, board, "client"))


def chosen(source, board, host):
    """The variables of a dashboard, with this host."""
    if not list(grafana.queries(board, source.plugin)):
        return {}
    return {**grafana.resolve(board, source.ask, prefer={host}), "__rate_interval": ["2m"]}


def metrics_of(answer):
    """The agent's metrics in an expression, under PCP's names."""
    return {NAMES.get(name, name) for name in re.findall(r"mptcp[._][\w.]*\w", answer.expr)}
