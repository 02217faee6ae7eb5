// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prints each page fault of a process until it ends: an example of the device's ABI, by its header alone.
 *
 *	cc -Wall -I uapi -o faults docs/examples/faults.c
 *	./faults PID
 *
 * uapi/PROTOCOL.md says what each call does and promises. The records of one CPU come in the order of time; those of
 * several would have to be merged by time.
 */
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "fault_tracer.h"

static __u64 buffer[8192];

static void print_fault(const struct ft_fault_record *fault)
{
	unsigned long long flags = FT_FAULT_FLAGS(fault);

	printf("%llu %u %u 0x%llx %c\n", fault->time_ns, FT_FAULT_PID(fault), FT_FAULT_TID(fault),
	       FT_FAULT_ADDRESS(fault),
	       flags & FT_FAULT_INSTRUCTION ? 'x' : flags & FT_FAULT_WRITE ? 'w' : 'r');
}

/* Takes all that the ring of a CPU holds. An id that no CPU has is refused. */
static void drain(int device, unsigned int cpu)
{
	struct ft_drain request = {
		.buffer = (__u64)(unsigned long)buffer,
		.length = sizeof(buffer),
		.cpu = cpu,
	};

	while (ioctl(device, FT_IOC_DRAIN, &request) == 0 && request.bytes) {
		const __u64 *record = buffer, *end = buffer + request.bytes / 8;

		/* A reader skips the types that it does not know. */
		for (; record < end; record += FT_HEADER_SLOTS(*record) * FT_SLOT_BYTES / 8)
			if (FT_HEADER_TYPE(*record) == FT_RECORD_FAULT)
				print_fault((const struct ft_fault_record *)record);
	}
}

int main(int argc, char **argv)
{
	struct ft_info info;
	struct ft_target target = { .pid = argc == 2 ? atoi(argv[1]) : 0 };
	struct ft_cpu_counters all = { 0 };
	int device;

	if (target.pid <= 0)
		errx(2, "usage: faults PID");
	device = open("/dev/" FT_DEVICE_NAME, O_RDWR);
	if (device < 0)
		err(1, "/dev/" FT_DEVICE_NAME " (modprobe fault_tracer?)");
	if (ioctl(device, FT_IOC_INFO, &info))
		err(1, "FT_IOC_INFO");
	if (info.abi_version != FT_ABI_VERSION)
		errx(1, "the module speaks version %u of the ABI, this program %u", info.abi_version,
		     FT_ABI_VERSION);
	if (ioctl(device, FT_IOC_TARGET_ADD, &target))
		err(1, "process %d", target.pid);
	if (ioctl(device, FT_IOC_START))
		err(1, "FT_IOC_START (dmesg says more)");

	for (int over = 0; !over;) {
		struct pollfd wait = { .fd = device, .events = POLLIN };

		/* Fewer records than the watermark wake nobody. */
		if (poll(&wait, 1, 100) < 0)
			err(1, "poll");
		over = wait.revents & POLLHUP;
		if (over && ioctl(device, FT_IOC_STOP))
			err(1, "FT_IOC_STOP");
		for (unsigned int cpu = 0; cpu < info.cpus; cpu++)
			drain(device, cpu);
	}

	for (unsigned int cpu = 0; cpu < info.cpus; cpu++) {
		struct ft_cpu_counters counters = { .cpu = cpu };

		if (ioctl(device, FT_IOC_CPU_COUNTERS, &counters))
			continue;
		all.hits += counters.hits;
		all.recorded += counters.recorded;
		all.dropped += counters.dropped;
	}
	if (ioctl(device, FT_IOC_INFO, &info))
		err(1, "FT_IOC_INFO");
	fprintf(stderr, "%llu hits = %llu recorded + %llu dropped; %llu missed\n", all.hits, all.recorded,
		all.dropped, info.missed);
	return 0;
}
