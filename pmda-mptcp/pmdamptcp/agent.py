# SPDX-License-Identifier: GPL-2.0-or-later
"""The PCP glue: tables in, PMDA out (PMDA(3), pcp.pmda)."""

import ctypes
import json
import os
from functools import partial
from textwrap import fill
from time import monotonic
from typing import Any, Dict, List, Optional

import cpmapi
from cpmda import PMDA_ATTR_CONTAINER, PMDA_FLAG_AUTHORIZE, PMDA_FLAG_CONTAINER, pmda_indom, pmda_pmid
from pcp.pmapi import pmContext as PCP, pmErr, pmUnits
from pcp.pmda import PMDA, pmdaGetContext, pmdaMetric

from . import config, privileges, seccomp
from .context import Current
from .credentials import Credentials, Viewer
from .flows import Flow
from .indoms import ListIndom
from .metrics import PM_IN_NULL, Domain, Group
from .metrics.registry import GROUPS
from .namespaces import Namespaces
from .owners import Owners
from .pictures import Allowance, Local, Picture, Remote
from .snapshot import Snapshot

DOMAIN = 262  # IPPROTO_MPTCP; free in PCP's stdpmid

_HELP_WIDTH = 78
_M_TRIM_THRESHOLD, _TRIM_THRESHOLD = -1, 128 * 1024
_NOT_FOUND, _NOT_FOUND_EVERY = 100, 10.0  # how often "Container not found" is said: seconds
_LISTED_AGE = 60.0  # seconds
_SERIAL_MASK = (1 << 22) - 1  # of a pmInDom, as pmInDom_serial(3) gives it
_NO_VALUE = None  # leaves the instance out
_NOT_FOR_YOU = [cpmapi.PM_ERR_PERMISSION, 0]
_NOT_IN_THIS_KERNEL = [cpmapi.PM_ERR_APPVERSION, 0]


class Agent(PMDA):  # type: ignore[misc]  # PCP has no types
    """The agent.  `run` serves pmcd until it closes the pipe.

    To be made without touching the kernel: PCP's Install runs it for the
    name space alone.
    """

    def __init__(self, name: str = "mptcp", domain: int = DOMAIN):
        with privileges.borrowing(PCP.pmGetConfig("PCP_USER"), "."):
            super().__init__(name, domain)  # opens the log
        self._snapshot = Snapshot(config.Config(), self.log)
        self._served = {(group.cluster, item) for group in GROUPS for item in range(len(group.metrics))}
        self._groups: Dict[int, Group[Any]] = {group.cluster: group for group in GROUPS}
        self._own: Picture = Local(self._snapshot, cpmapi.PM_ERR_AGAIN)
        self._picture: Picture = self._own  # of the context whose request this is
        self._namespaces = Namespaces(self.log)
        self._remotes: Dict[str, Remote] = {}
        self._containers: Dict[int, str] = {}  # by context
        self._rows: Dict[int, Dict[int, Any]] = {}
        self._domains: Dict[int, Domain[Any]] = {}
        self._indoms: Dict[int, ListIndom] = {}
        self._not_found = Allowance(_NOT_FOUND, _NOT_FOUND_EVERY)
        self._credentials = Credentials()
        self._current = Current(domain)
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
        self.set_comm_flags(PMDA_FLAG_AUTHORIZE | PMDA_FLAG_CONTAINER)
        self.set_attribute_callback(self._attribute)
        self.set_endcontext_callback(self._context_ends)

    def run(self) -> None:
        """Serve pmcd, or print what Install asks for."""
        if not {"PCP_PYTHON_DOMAIN", "PCP_PYTHON_PMNS", "PCP_PYTHON_PROBE"} & set(os.environ):
            _give_memory_back()
            user = PCP.pmGetConfig("PCP_USER")
            owners = Owners(self.log)
            owners.start(user)  # must see more than the agent, and be there before it has threads
            path = os.environ.get("PMDAMPTCP_CONFIG") or PCP.pmGetConfig("PCP_SYSCONF_DIR") + "/mptcp/mptcp.conf"
            with privileges.borrowing(user):
                settings = config.read(path, self.log)
            self._namespaces = Namespaces(self.log, settings.namespaces, settings.containers)
            self._namespaces.start(user, settings)
            privileges.drop(user, self.log)
            Flow.peers = settings.remote_addresses
            if not settings.listener and not settings.nftables:
                privileges.give_up(self.log)
            if settings.seccomp:
                seccomp.restrict(self.log)
            (owners.close if settings.processes is config.Processes.NO else owners.run)()
            self._snapshot = Snapshot(settings, self.log, privileges.net_admin(), owners)
            self._snapshot.viewer = self._viewer
            self._own = self._picture = Local(self._snapshot, cpmapi.PM_ERR_AGAIN)
            self._snapshot.start()
            self._namespaces.begin()
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
        self._namespaces.begin()
        picture = self._choose()
        if picture is not self._picture:
            self._picture = picture
            self._rows.clear()
            self._show(*self._domains)
        picture.begin()
        if not picture.after_fetch or monotonic() - picture.listed > _LISTED_AGE:
            picture.listed = monotonic()
            picture.list()
            self._show(*self._domains)
        picture.after_fetch = False

    def _fetch_begins(self) -> None:
        self._picture.after_fetch = True

    def _refresh(self, cluster: int) -> None:
        group = self._groups.get(cluster)
        if group is None:
            return
        self._rows.pop(cluster, None)  # nothing old is served if this fails
        self._rows[cluster] = self._picture.rows(cluster)
        if group.domain:
            self._show(group.domain.serial)

    def _show(self, *serials: int) -> None:
        """Make the instances of the picture those that PCP sees."""
        for serial in serials:
            self._indoms[serial].replace(self._picture.instances[serial],
                                         partial(self._picture.name, serial), self._picture)

    # Which namespace a context sees: the one that it named, or pmcd's own; never one in the place of another.

    def _attribute(self, context: int, attribute: int, value: str) -> None:
        if attribute == PMDA_ATTR_CONTAINER:
            self._containers[context] = value
        else:
            self._credentials.note(context, attribute, value)

    def _context_ends(self, context: int) -> None:
        self._containers.pop(context, None)
        self._credentials.end(context)

    def _choose(self) -> Picture:
        name = self._containers.get(self._context()) if self._containers else None
        if not name:
            return self._own
        client = self._namespaces.worker(name)
        if client is None:
            known = self._namespaces.exists(name)
            return Picture(cpmapi.PM_ERR_AGAIN if known else cpmapi.PM_ERR_NOCONTAINER)
        if name not in self._remotes or self._remotes[name].client is not client:
            self._remotes[name] = Remote(client, cpmapi.PM_ERR_AGAIN)
        return self._remotes[name]

    def _context(self) -> int:
        found = self._current.context()
        if found is None:
            raise RuntimeError("whose request this is cannot be found out")  # a client gets an error, not another's
        return found

    def _viewer(self) -> Viewer:
        """Who asks, while values are being served: only then pmdaGetContext(3) tells."""
        try:
            return self._credentials.viewer(pmdaGetContext())
        except pmErr:
            return Viewer()  # nobody

    def _value(self, cluster: int, item: int, inst: int) -> Optional[List[Any]]:
        if (cluster, item) not in self._served:
            return [cpmapi.PM_ERR_PMID, 0]
        row = self._rows.get(cluster, {}).get(inst)
        if row is None:
            return [self._error(), 0] if inst == PM_IN_NULL else _NO_VALUE
        try:
            value = self._picture.get(cluster, item, row)
        except PermissionError:
            return _NOT_FOR_YOU
        if value is None:
            return _NOT_IN_THIS_KERNEL if inst == PM_IN_NULL else _NO_VALUE
        return [value, 1]

    def _error(self) -> int:
        """Why there is no value; libpcp_pmda logs each "Container not found", and no "Try again"."""
        error = self._picture.error
        return error if error != cpmapi.PM_ERR_NOCONTAINER or self._not_found.take() else int(cpmapi.PM_ERR_AGAIN)

    def _labels(self, indom: int, inst: int) -> str:
        serial = indom & _SERIAL_MASK
        if self._choose() is not self._picture:
            return "{}"  # PCP asks for labels of the instances of the last request, which another made
        row = self._picture.instances.get(serial, {}).get(inst)
        return json.dumps(self._picture.labels(serial, row)) if row is not None else "{}"


def _give_memory_back() -> None:
    """Have malloc return what a dump of many sockets took: by itself it learns to keep it (mallopt(3))."""
    try:
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
    except AttributeError:
        pass  # not glibc
