// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A bridge with delay and loss, in place of netem, which many kernels lack.
 *
 *   delay MILLISECONDS[,MILLISECONDS...] LOSS_PERCENT IF_A1 IF_B1 [IF_A2 IF_B2 ...]
 *
 * A list of delays has one for each pair; the last one holds for the rest.
 * Each frame that arrives on one interface of a pair leaves by the other one
 * after the delay, unless the dice drop it.  "ready" on standard output means
 * that frames are forwarded.  The frames keep their virtio header, so that
 * segmentation and checksum offload work through the bridge; with offload one
 * frame may hold several TCP segments, and a loss takes all of them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define MAX_PORTS	64
#define QUEUE		65536		/* frames waiting per port */
#define BATCH		64		/* frames read from a port in one turn */
#define FRAME		(1 << 17)	/* a GSO frame and its headers fit */
#define SECOND		1000000000ull

struct frame {
	uint64_t due;
	int length;
	unsigned char *data;
};

struct port {
	int fd;
	uint64_t delay;
	struct frame *queue;		/* ring, head and tail count upwards */
	unsigned int head, tail;
};

static struct port ports[MAX_PORTS];
static struct pollfd polls[MAX_PORTS];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static void fail(const char *what, const char *which)
{
	fprintf(stderr, "delay: %s: %s: %s\n", which, what, strerror(errno));
	exit(1);
}

static int open_port(const char *name)
{
	int on = 1, size = 64 << 20;
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(name),
	};
	/* Protocol 0: nothing arrives before the options are set. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!address.sll_ifindex)
		fail("no such interface", name);
	if (fd < 0)
		fail("socket", name);
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)))
		fail("PACKET_VNET_HDR", name);
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)))
		fail("PACKET_IGNORE_OUTGOING", name);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("bind", name);
	return fd;
}

static void receive(struct port *port, double loss)
{
	static unsigned char buffer[FRAME];

	for (int i = 0; i < BATCH; i++) {
		ssize_t length = recv(port->fd, buffer, sizeof(buffer), 0);
		struct frame *frame;

		/* ENETDOWN is reported once when a link goes down; the
		 * socket works again when the link is back. */
		if (length <= 0)
			return;
		if (loss > 0 && drand48() * 100 < loss)
			continue;
		if (port->tail - port->head >= QUEUE)
			continue;
		frame = &port->queue[port->tail % QUEUE];
		frame->data = malloc(length);
		if (!frame->data)
			continue;
		memcpy(frame->data, buffer, length);
		frame->length = length;
		frame->due = now() + port->delay;
		port->tail++;
	}
}

/* Sends what is due to the peer; returns when the next frame is due, or 0. */
static uint64_t forward(struct port *port, struct port *peer)
{
	uint64_t time = now();

	for (; port->head != port->tail; port->head++) {
		struct frame *frame = &port->queue[port->head % QUEUE];

		if (frame->due > time)
			return frame->due;
		/* An error (link down, queue full) loses the frame, as a
		 * real link would. */
		if (send(peer->fd, frame->data, frame->length, 0) < 0 &&
		    errno == EINVAL)
			fprintf(stderr, "delay: a frame of %d bytes was refused\n",
				frame->length);
		free(frame->data);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int count = argc - 3;
	const char *delay;
	double loss;

	if (count < 2 || count % 2 || count > MAX_PORTS) {
		fprintf(stderr, "usage: delay MILLISECONDS[,...] LOSS_PERCENT IF_A IF_B ...\n");
		return 2;
	}
	delay = argv[1];
	loss = atof(argv[2]);
	srand48(getpid());
	prctl(PR_SET_TIMERSLACK, 1);
	for (int i = 0; i < count; i++) {
		ports[i].fd = open_port(argv[i + 3]);
		ports[i].queue = calloc(QUEUE, sizeof(struct frame));
		if (!ports[i].queue)
			fail("calloc", argv[i + 3]);
		polls[i].fd = ports[i].fd;
		polls[i].events = POLLIN;
		ports[i].delay = atof(delay) * 1e6;
		if (i % 2 && strchr(delay, ','))
			delay = strchr(delay, ',') + 1;
	}
	puts("ready");
	fflush(stdout);

	for (;;) {
		uint64_t next = now() + SECOND, time;
		struct timespec pause = { 0 };

		for (int i = 0; i < count; i++)
			receive(&ports[i], loss);
		for (int i = 0; i < count; i++) {
			uint64_t due = forward(&ports[i], &ports[i ^ 1]);

			if (due && due < next)
				next = due;
		}
		time = now();
		if (next > time) {
			pause.tv_sec = (next - time) / SECOND;
			pause.tv_nsec = (next - time) % SECOND;
		}
		ppoll(polls, count, &pause, NULL);
	}
}
