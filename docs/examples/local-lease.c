/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local-lease.c -- reads a file on its device, under a lease
 *
 * usage: local-lease FILE DEVICE
 *
 * FILE is on a pmemleasefs that is mounted with local_leases, DEVICE is what is mounted.  A
 * program with a device of its own hands the segments to it; here pread(2) stands for that.
 * Between two pieces the program looks whether it has to give the lease back.
 *
 *	cc -o local-lease local-lease.c
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <pmemleasefs/ioctl.h>

#define LEASE_BYTES (16u << 20) /* what is asked for counts against limits */
#define PIECE_BYTES 65536u

/* Somebody's lease in the way was recalled: it takes that one's time. */
static int take(int fd, uint64_t first_byte, struct pml_ioc_lease_take *lease)
{
	for (int i = 0; i < 100; i++) {
		memset(lease, 0, sizeof(*lease));
		lease->version = PML_IOC_VERSION;
		lease->first_byte = first_byte;
		lease->len_bytes = LEASE_BYTES;
		if (ioctl(fd, PML_IOC_LEASE_TAKE, lease) == 0)
			return 0;
		if (errno != EAGAIN)
			break;
		usleep(100000);
	}
	return -1;
}

/* To be called when no device uses the blocks any more. */
static int give_back(int fd, uint64_t lease_id)
{
	struct pml_ioc_lease_ref ref = {.version = PML_IOC_VERSION, .lease_id = lease_id};
	return ioctl(fd, PML_IOC_LEASE_RETURN, &ref);
}

/* Is the lease wanted back, or over?  Then the blocks may not be touched any more. */
static bool is_wanted(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLPRI};
	struct pml_ioc_lease_event event = {.version = PML_IOC_VERSION};
	if (poll(&wait, 1, 0) == 0)
		return false;
	/* Else the daemon is dead. */
	if (wait.revents & POLLPRI)
		(void)ioctl(fd, PML_IOC_LEASE_EVENT, &event);
	return true;
}

/* Reads from *@at on; false: an error.  *@at stands where the next lease begins. */
static bool read_segments(int fd, int device, const struct pml_ioc_lease_take *lease, uint64_t *at)
{
	static char piece[PIECE_BYTES];
	for (uint32_t i = 0; i < lease->count; i++) {
		const struct pml_ioc_lease_segment *segment = &lease->segments[i];
		for (uint64_t done = 0; done < segment->len_bytes; done += PIECE_BYTES) {
			if (is_wanted(fd))
				return true;
			uint64_t left = segment->len_bytes - done;
			size_t bytes = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
			if (pread(device, piece, bytes, (off_t)(segment->device_byte + done)) !=
			    (ssize_t)bytes)
				return false;
			*at = segment->first_byte + done + bytes;
		}
	}
	/* Behind the last segment there are zeros. */
	*at = lease->end_byte;
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: local-lease FILE DEVICE\n");
		return 1;
	}
	int fd = open(argv[1], O_RDONLY), device = open(argv[2], O_RDONLY);
	if (fd < 0 || device < 0) {
		perror(fd < 0 ? argv[1] : argv[2]);
		return 2;
	}
	struct pml_ioc_lease_take lease;
	uint64_t at = 0;
	while (take(fd, at, &lease) == 0) {
		bool is_good = read_segments(fd, device, &lease, &at);
		/* ESTALE: it was over already. */
		if (give_back(fd, lease.lease_id) != 0 && errno != ESTALE)
			is_good = false;
		if (!is_good) {
			perror(argv[2]);
			return 2;
		}
	}
	if (errno != ENODATA) { /* the end of the file */
		perror(argv[1]);
		return 2;
	}
	printf("%llu bytes read on the device\n", (unsigned long long)at);
	return 0;
}
