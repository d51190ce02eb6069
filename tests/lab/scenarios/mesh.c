// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A path manager plugin of mptcpd for the lab: one subflow for each address.
 *
 * The side that accepted a connection announces its other IPv4 addresses,
 * and the side that opened it joins each address that it is told, from the
 * address that routing chooses.  The plugins that come with mptcpd 0.12 do
 * not: addr_adv drives the path manager in the kernel, and sspi announces
 * with address id 0, of which the kernel sends none.
 */
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ell/util.h> /* log.h needs it */
#include <ell/log.h>
#include <ell/queue.h>
#include <mptcpd/id_manager.h>
#include <mptcpd/network_monitor.h>
#include <mptcpd/path_manager.h>
#include <mptcpd/plugin.h>

struct connection {
	struct mptcpd_pm *pm;
	mptcpd_token_t token;
	struct sockaddr_in local;
};

/* The IPv4 address of a socket's end, also where it is one of IPv6 that speaks IPv4. */
static bool to_ipv4(struct sockaddr const *from, struct sockaddr_in *to)
{
	struct sockaddr_in6 const *six = (struct sockaddr_in6 const *)from;

	if (from->sa_family == AF_INET) {
		memcpy(to, from, sizeof(*to));
		return true;
	}
	if (from->sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
		return false;
	*to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = six->sin6_port };
	memcpy(&to->sin_addr, &six->sin6_addr.s6_addr[12], 4);
	return true;
}

static void announce(void *data, void *user_data)
{
	struct connection *connection = user_data;
	struct sockaddr_in address;
	struct sockaddr *sa = (struct sockaddr *)&address;

	if (!to_ipv4(data, &address) ||
	    address.sin_addr.s_addr == connection->local.sin_addr.s_addr)
		return;
	/* Port 0: mptcpd listens on a port of its own, and announces that. */
	address.sin_port = 0;
	if (mptcpd_pm_add_addr(connection->pm, sa,
			       mptcpd_idm_get_id(mptcpd_pm_get_idm(connection->pm), sa),
			       connection->token))
		l_error("mesh: announcing failed");
}

static void announce_interface(struct mptcpd_interface const *interface, void *data)
{
	l_queue_foreach(interface->addrs, announce, data);
}

static void established(mptcpd_token_t token, struct sockaddr const *local,
			struct sockaddr const *remote, bool server_side, struct mptcpd_pm *pm)
{
	struct connection connection = { .pm = pm, .token = token };

	(void)remote;
	if (server_side && to_ipv4(local, &connection.local))
		mptcpd_nm_foreach_interface(mptcpd_pm_get_nm(pm), announce_interface,
					    &connection);
}

/* What was joined already: an announcement whose echo got lost is told twice. */
static struct l_queue *joined;

static void *joined_key(mptcpd_token_t token, mptcpd_aid_t id)
{
	return (void *)((uintptr_t)token << 8 | id);
}

static bool is_of(void *key, void *token)
{
	return (uintptr_t)key >> 8 == (uintptr_t)token;
}

static void closed(mptcpd_token_t token, struct mptcpd_pm *pm)
{
	(void)pm;
	l_queue_foreach_remove(joined, is_of, (void *)(uintptr_t)token);
}

static void told(mptcpd_token_t token, mptcpd_aid_t id, struct sockaddr const *remote,
		 struct mptcpd_pm *pm)
{
	struct sockaddr_in address, local;
	struct sockaddr *sa = (struct sockaddr *)&local;
	socklen_t length = sizeof(local);
	bool again;
	int fd;

	if (!to_ipv4(remote, &address))
		return;
	again = l_queue_remove(joined, joined_key(token, id));
	l_queue_push_tail(joined, joined_key(token, id));
	if (again)
		return;
	/* Connecting a UDP socket sends nothing, and asks for a route. */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    getsockname(fd, sa, &length) == 0) {
		local.sin_port = 0;
		if (mptcpd_pm_add_subflow(pm, token, mptcpd_idm_get_id(mptcpd_pm_get_idm(pm), sa),
					  id, sa, (struct sockaddr *)&address, false))
			l_error("mesh: joining failed");
	}
	close(fd);
}

static struct mptcpd_plugin_ops const operations = {
	.connection_established = established,
	.connection_closed = closed,
	.new_address = told,
};

static int start(struct mptcpd_pm *pm)
{
	(void)pm;
	joined = l_queue_new();
	return mptcpd_plugin_register_ops("mesh", &operations) ? 0 : -1;
}

static void stop(struct mptcpd_pm *pm)
{
	(void)pm;
	l_queue_destroy(joined, NULL);
}

MPTCPD_PLUGIN_DEFINE(mesh, "One subflow for each announced address", MPTCPD_PLUGIN_PRIORITY_DEFAULT, start, stop)
