# SPDX-License-Identifier: GPL-2.0-or-later
"""The PCP glue: tables in, PMDA out (PMDA(3), pcp.pmda)."""

import ctypes
import json
import os
from textwrap import fill
from time import monotonic
from typing import Any, Dict, List, Optional

import cpmapi
from cpmda import PMDA_FLAG_AUTHORIZE, pmda_indom, pmda_pmid
from pcp.pmapi import pmContext as PCP, pmUnits
from pcp.pmda import PMDA, pmdaGetContext, pmdaMetric

from . import config, privileges, seccomp
from .credentials import Credentials
from .flows import Flow
from .indoms import ListIndom
from .metrics import PM_IN_NULL, Domain, Group
from .metrics.registry import GROUPS
from .owners import Owners
from .snapshot import Snapshot

DOMAIN = 262  # IPPROTO_MPTCP; free in PCP's stdpmid

_HELP_WIDTH = 78
_M_TRIM_THRESHOLD, _TRIM_THRESHOLD = -1, 128 * 1024
_LISTED_AGE = 60.0  # seconds
_SERIAL_MASK = (1 << 22) - 1  # of a pmInDom, as pmInDom_serial(3) gives it
_NO_VALUE = None  # leaves the instance out
_NOT_NOW = [cpmapi.PM_ERR_AGAIN, 0]  # the source of the whole group fails
_NOT_FOR_YOU = [cpmapi.PM_ERR_PERMISSION, 0]
_NOT_IN_THIS_KERNEL = [cpmapi.PM_ERR_APPVERSION, 0]


class Agent(PMDA):  # type: ignore[misc]  # PCP has no types
    """The agent.  `run` serves pmcd until it closes the pipe.

    To be made without touching the kernel: PCP's Install runs it for the
    name space alone.
    """

    def __init__(self, name: str = "mptcp", domain: int = DOMAIN):
        with privileges.borrowing(PCP.pmGetConfig("PCP_USER")):
            super().__init__(name, domain)  # opens the log
        self._snapshot = Snapshot(config.Config(), self.log)
        self._groups: Dict[int, Group[Any]] = {group.cluster: group for group in GROUPS}
        self._getters = {(group.cluster, item): metric.get
                         for group in GROUPS for item, metric in enumerate(group.metrics)}
        self._rows: Dict[int, Dict[int, Any]] = {}
        self._domains: Dict[int, Domain[Any]] = {}
        self._indoms: Dict[int, ListIndom] = {}
        self._instances: Dict[int, Dict[int, Any]] = {}
        self._credentials = Credentials()
        self._after_fetch = False
        self._listed = float("-inf")  # when instances were last brought up to date for want of a better moment
        for group in GROUPS:
            if group.domain and group.domain.serial not in self._domains:
                self._add_domain(group.domain)
        for group in reversed(GROUPS):  # PCP lists names in the reverse order of their coming
            self._add_metrics(group)
        self.set_refresh_metrics(self._before_request)
        self.set_fetch(self._fetch_begins)
        self.set_refresh(self._refresh)
        self.set_fetch_callback(self._value)
        self.set_label_callback(self._labels)
        self.set_comm_flags(PMDA_FLAG_AUTHORIZE)
        self.set_attribute_callback(self._credentials.note)
        self.set_endcontext_callback(self._credentials.end)

    def run(self) -> None:
        """Serve pmcd, or print what Install asks for."""
        if not {"PCP_PYTHON_DOMAIN", "PCP_PYTHON_PMNS", "PCP_PYTHON_PROBE"} & set(os.environ):
            _give_memory_back()
            user = PCP.pmGetConfig("PCP_USER")
            owners = Owners(self.log)
            owners.start(user)  # must see more than the agent, and be there before it has threads
            privileges.drop(user, self.log)
            path = os.environ.get("PMDAMPTCP_CONFIG") or PCP.pmGetConfig("PCP_SYSCONF_DIR") + "/mptcp/mptcp.conf"
            settings = config.read(path, self.log)
            Flow.peers = settings.remote_addresses
            if not settings.listener and not settings.nftables:
                privileges.give_up(self.log)
            if settings.seccomp:
                seccomp.restrict(self.log)
            (owners.close if settings.processes is config.Processes.NO else owners.run)()
            self._snapshot = Snapshot(settings, self.log, privileges.net_admin(), owners)
            self._snapshot.start()
        super().run()

    def _add_domain(self, domain: Domain[Any]) -> None:
        indom = ListIndom(pmda_indom(domain.serial))
        self._domains[domain.serial], self._indoms[domain.serial] = domain, indom
        self.add_indom(indom, domain.oneline, fill(domain.help, _HELP_WIDTH))

    def _add_metrics(self, group: Group[Any]) -> None:
        indom = pmda_indom(group.domain.serial) if group.domain else cpmapi.PM_INDOM_NULL
        for item, metric in reversed(list(enumerate(group.metrics))):
            self.add_metric(metric.name,
                            pmdaMetric(pmda_pmid(group.cluster, item), metric.type, indom, metric.semantics,
                                       pmUnits(*metric.units)),
                            metric.oneline, fill(metric.help, _HELP_WIDTH))

    # Requests.  Instances may only be replaced in refresh callbacks, and of
    # those only _before_request runs when a client asks for the instances
    # without values.  It is not told what the request is.  A client that
    # polls sends fetches, one that starts sends other requests before it
    # asks for instances: so instances are brought up to date unless the last
    # request was a fetch, and pollers of a few counters cause one dump a
    # minute: no list of instances is older than that.

    def _before_request(self) -> None:
        if not self._after_fetch or monotonic() - self._listed > _LISTED_AGE:
            self._listed = monotonic()
            for domain in self._domains.values():
                domain.refresh(self._snapshot)
                self._update(domain)
        self._after_fetch = False

    def _fetch_begins(self) -> None:
        self._after_fetch = True
        self._snapshot.viewer = self._credentials.viewer(pmdaGetContext())

    def _refresh(self, cluster: int) -> None:
        group = self._groups.get(cluster)
        if group is None:
            return
        self._rows.pop(cluster, None)  # nothing old is served if this fails
        group.refresh(self._snapshot)
        instances = self._update(group.domain) if group.domain else None
        self._rows[cluster] = group.rows_of(self._snapshot, instances)

    def _update(self, domain: Domain[Any]) -> Dict[int, Any]:
        rows = self._instances[domain.serial] = domain.instances(self._snapshot)
        self._indoms[domain.serial].replace(rows, domain.name)
        return rows

    def _value(self, cluster: int, item: int, inst: int) -> Optional[List[Any]]:
        get = self._getters.get((cluster, item))
        if get is None:
            return [cpmapi.PM_ERR_PMID, 0]
        row = self._rows.get(cluster, {}).get(inst)
        if row is None:
            return _NOT_NOW if inst == PM_IN_NULL else _NO_VALUE
        try:
            value = get(row)
        except PermissionError:
            return _NOT_FOR_YOU
        if value is None:
            return _NOT_IN_THIS_KERNEL if inst == PM_IN_NULL else _NO_VALUE
        return [value, 1]

    def _labels(self, indom: int, inst: int) -> str:
        serial = indom & _SERIAL_MASK
        row = self._instances.get(serial, {}).get(inst)
        return json.dumps(self._domains[serial].labels(row)) if row is not None else "{}"


def _give_memory_back() -> None:
    """Have malloc return what a dump of many sockets took: by itself it learns to keep it (mallopt(3))."""
    try:
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
    except AttributeError:
        pass  # not glibc
