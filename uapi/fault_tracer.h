/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The ABI of /dev/fault_tracer for C: record layouts, ioctl numbers and flags.
 *
 * The same as fault_tracer.rs, which explains each field; a test holds the two equal. PROTOCOL.md
 * tells the order of the calls and the contract of the rings.
 */
#ifndef _UAPI_LINUX_FAULT_TRACER_H
#define _UAPI_LINUX_FAULT_TRACER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define FT_DEVICE_NAME			"fault_tracer"
#define FT_ABI_VERSION			2

/* Every record occupies a whole number of slots, in bytes. */
#define FT_SLOT_BYTES			32
#define FT_MAX_SESSIONS			16

/* Bits of a process or thread id. */
#define FT_PID_BITS			22
#define FT_PID_MASK			((1ULL << FT_PID_BITS) - 1)

/* Bytes of a CPU's ring: a power of two, and a page or more (ft_info.page_bytes). */
#define FT_RING_BYTES_MIN		4096ULL
#define FT_RING_BYTES_MAX		(1ULL << 30)

/*
 * Record types: bits 60..63 of a record's first word. Skip those you do not know. All from
 * FT_RECORD_FAULT on are faults, whose page table entry is emitted by the other three bits.
 */
#define FT_RECORD_PAD			0ULL
#define FT_RECORD_FAULT			8ULL
#define FT_RECORD_MAPPING		2ULL
#define FT_RECORD_TASK			3ULL
#define FT_RECORD_EXIT			4ULL
#define FT_RECORD_LOST			5ULL
#define FT_RECORD_RETURN		6ULL
#define FT_RECORD_STACK			7ULL

/* A record's first word. A fault is one slot; other records have their length where it has flags. */
#define FT_HEADER_TGID_SHIFT		FT_PID_BITS
#define FT_HEADER_FLAGS_SHIFT		(2 * FT_PID_BITS)
#define FT_FLAGS_MASK			((1ULL << 13) - 1)
#define FT_HEADER_ENTRY_SHIFT		60
#define FT_HEADER_MAPPING_SHIFT		(FT_HEADER_FLAGS_SHIFT + 13)
#define FT_HEADER_SLOTS_SHIFT		(2 * FT_PID_BITS)
#define FT_RECORD_SLOTS_MAX		((1ULL << 12) - 1)
#define FT_HEADER_TYPE_SHIFT		60

#define FT_HEADER_TYPE(header)						\
	((__u64)(header) >> 63 ?					\
		 FT_RECORD_FAULT :					\
		 (__u64)(header) >> FT_HEADER_TYPE_SHIFT)
/* Length in slots; 0 only in a damaged record. */
#define FT_HEADER_SLOTS(header)						\
	(FT_HEADER_TYPE(header) == FT_RECORD_FAULT ?			\
		 1ULL :							\
		 ((__u64)(header) >> FT_HEADER_SLOTS_SHIFT) & FT_RECORD_SLOTS_MAX)

/* Numbers of mappings, given again and again by each CPU for itself. */
#define FT_MAPPINGS			(1 << 11)
#define FT_MAPPING_UNKNOWN		(FT_MAPPINGS - 1)

/* One entry into handle_mm_fault. */
struct ft_fault_record {
	__u64 header;		/* tid, process id, flags, high bits of the mapping's number, type */
	__u64 time_ns;		/* by the session's clock */
	__u64 address_counters;	/* faulting address; low bits of min_flt and maj_flt before it */
	__u64 ip_mapping;	/* user instruction pointer; low bits of the mapping's number */
};

#define FT_ADDRESS_BITS			56
#define FT_ADDRESS_MASK			((1ULL << FT_ADDRESS_BITS) - 1)
#define FT_MIN_FLT_SHIFT		FT_ADDRESS_BITS
#define FT_MAJ_FLT_SHIFT		(FT_ADDRESS_BITS + 4)
#define FT_COUNTER_MASK			0xfULL

/* What the faults of this CPU with this number are in, from now on. The path follows. */
struct ft_mapping_record {
	__u64 header;
	__u64 time_ns;
	__u64 start;
	__u64 end;
	__u64 offset;		/* in the file, in bytes */
	__u64 inode;
	__u64 device;		/* major number in the high, minor in the low 32 bits */
	__u16 number;
	__u16 path_bytes;
	__u32 flags;		/* FT_MAPPING_* */
};

#define FT_MAPPING_READ			(1U << 0)
#define FT_MAPPING_WRITE		(1U << 1)
#define FT_MAPPING_EXEC			(1U << 2)
#define FT_MAPPING_SHARED		(1U << 3)
#define FT_MAPPING_FILE			(1U << 4)
#define FT_MAPPING_GROWSDOWN		(1U << 5)
#define FT_MAPPING_HUGETLB		(1U << 6)
#define FT_MAPPING_LOCKED		(1U << 7)
#define FT_MAPPING_IDENTITY		(1U << 8)	/* an ft_mapped_file follows the path */
#define FT_MAPPING_BUILD_ID		(1U << 9)	/* what it says of the build id is known */
#define FT_MAPPING_BIAS			(1U << 10)	/* its bias is known */
#define FT_MAPPING_AGAIN		(1U << 11)	/* what the number meant before, told again */

/* Which file code is of. Behind the last slot of the mapping's path. */
struct ft_mapped_file {
	__u32 generation;	/* of the inode, 0 where it has none */
	__u32 build_id_bytes;	/* 0: the file has none */
	__u8 build_id[32];
	__u64 bias;		/* an offset in the file plus this is an address of its symbols */
	__u64 reserved[2];
};

/* A thread and what it is called. For PRESENT and EXEC, its program's path may follow. */
struct ft_task_record {
	__u64 header;
	__u64 time_ns;
	__u32 parent;		/* process id */
	__u32 event;		/* FT_TASK_* */
	__u8 comm[16];
	__u64 min_flt;
	__u64 maj_flt;
	__u32 path_bytes;
	__u32 from_id;		/* EXEC: thread id before; FORK: process that made it */
};

#define FT_TASK_PRESENT			0
#define FT_TASK_FORK			1
#define FT_TASK_EXEC			2
#define FT_TASK_RENAME			3
#define FT_TASK_ALIVE			4	/* when the session was stopped */
#define FT_TASK_LEFT			5	/* by the session's rules traced no more */

/* A thread's counters when it has taken its last fault. */
struct ft_exit_record {
	__u64 header;
	__u64 time_ns;
	__u64 min_flt;
	__u64 maj_flt;
};

/* Faults of this CPU that found the ring full, before the next fault that fits or at the end. */
struct ft_lost_record {
	__u64 header;
	__u64 time_ns;		/* of the first */
	__u64 last_ns;
	__u64 count;
};

/* The return of a fault that was recorded, in a session with FT_SESSION_LATENCY. */
struct ft_return_record {
	__u64 header;
	__u64 time_ns;		/* of the return; the fault took time_ns - entry_ns */
	__u64 entry_ns;		/* time_ns of the fault */
	__u32 result;		/* FT_RETURN_RESULT, FT_RETURN_AROUND */
	__u32 page;		/* bits 0-7: log2 of the page's bytes, 8-15: of the folio's, 16-31: node + 1; 0: not known */
};

#define FT_AROUND_SHIFT			20
#define FT_AROUND_MASK			0xfffU
#define FT_RESULT_MASK			((1U << FT_AROUND_SHIFT) - 1)
/* vm_fault_t, FT_RESULT_* */
#define FT_RETURN_RESULT(r)		((r)->result & FT_RESULT_MASK)
/* Pages mapped around the fault, beside its own, plus 1; 0: not known. */
#define FT_RETURN_AROUND(r)		((r)->result >> FT_AROUND_SHIFT & FT_AROUND_MASK)

/* The user stack of the fault that follows on the same CPU. */
struct ft_stack_record {
	__u64 header;
	__u64 time_ns;		/* of that fault */
	__u32 count;		/* of return addresses, or of bytes from sp on, behind one word with rbp; FT_STACK_CHAIN: */
				/* behind room for FT_STACK_CHAIN_TOP_BYTES, pairs of a frame and where it returns */
	__u32 flags;		/* FT_STACK_* */
	__u64 sp;
};

#define FT_STACK_COPY			(1U << 0)	/* a copy; otherwise return addresses */
#define FT_STACK_WHOLE			(1U << 1)	/* up to the outermost frame */
#define FT_STACK_CUT			(1U << 2)	/* there is more than was asked for */
#define FT_STACK_BROKEN			(1U << 3)	/* unreadable memory, or a bad frame pointer */
#define FT_STACK_FOREIGN		(1U << 4)	/* nothing: no 64-bit user mode */
#define FT_STACK_CHAIN			(1U << 5)	/* the top, and the frames by frame pointers */
#define FT_STACK_FRAMES_MAX		1024U
#define FT_STACK_BYTES_MAX		(32U << 10)
#define FT_STACK_CHAIN_TOP_BYTES	256U

#define FT_RESULT_OOM			(1U << 0)
#define FT_RESULT_SIGBUS		(1U << 1)
#define FT_RESULT_MAJOR			(1U << 2)
#define FT_RESULT_HWPOISON		(1U << 4)
#define FT_RESULT_HWPOISON_LARGE	(1U << 5)
#define FT_RESULT_SIGSEGV		(1U << 6)
#define FT_RESULT_RETRY			(1U << 10)
#define FT_RESULT_COMPLETED		(1U << 14)

#define FT_FAULT_TID(r)			((__u32)((r)->header & FT_PID_MASK))
#define FT_FAULT_PID(r)			((__u32)(((r)->header >> FT_HEADER_TGID_SHIFT) & FT_PID_MASK))
#define FT_FAULT_FLAGS(r)						\
	((((r)->header >> FT_HEADER_FLAGS_SHIFT) & FT_FLAGS_MASK) |	\
	 (((r)->header >> FT_HEADER_ENTRY_SHIFT << FT_ENTRY_SHIFT) & FT_ENTRY_MASK))
#define FT_FAULT_ADDRESS(r)		((r)->address_counters & FT_ADDRESS_MASK)
#define FT_FAULT_IP(r)			((r)->ip_mapping & FT_ADDRESS_MASK)
#define FT_FAULT_MIN_FLT_LOW(r)						\
	((__u8)(((r)->address_counters >> FT_MIN_FLT_SHIFT) & FT_COUNTER_MASK))
#define FT_FAULT_MAJ_FLT_LOW(r)						\
	((__u8)(((r)->address_counters >> FT_MAJ_FLT_SHIFT) & FT_COUNTER_MASK))
#define FT_FAULT_MAPPING(r)						\
	((__u16)(((r)->ip_mapping >> FT_ADDRESS_BITS) |			\
		 (((r)->header >> FT_HEADER_MAPPING_SHIFT) & 7) << 8))

/* Flags of a fault. */
#define FT_FAULT_WRITE			(1ULL << 0)
#define FT_FAULT_PRESENT		(1ULL << 1)	/* the page table held a page */
#define FT_FAULT_FILE			(1ULL << 2)	/* pages of the mapping's file */
#define FT_FAULT_SHARED			(1ULL << 3)	/* MAP_SHARED */
#define FT_FAULT_SWAP_ENTRY		(1ULL << 4)	/* no page, and not empty */
#define FT_FAULT_TRIED			(1ULL << 5)	/* a further attempt */
#define FT_FAULT_USER			(1ULL << 6)	/* from user mode */
#define FT_FAULT_REMOTE			(1ULL << 7)	/* of another process's memory */
#define FT_FAULT_INSTRUCTION		(1ULL << 8)
#define FT_FAULT_GUP			(1ULL << 9)	/* get_user_pages */
#define FT_FAULT_UNSHARE		(1ULL << 10)
#define FT_FAULT_HUGETLB		(1ULL << 11)
#define FT_FAULT_VMA_LOCK		(1ULL << 12)

/* What the page table entry was: a number, told beside FT_FAULT_PRESENT or FT_FAULT_SWAP_ENTRY. */
#define FT_ENTRY_SHIFT			13
#define FT_ENTRY_MASK			(7ULL << FT_ENTRY_SHIFT)
/* Present. */
#define FT_ENTRY_NUMA_HINT		(1ULL << FT_ENTRY_SHIFT)
#define FT_ENTRY_PROTECTED		(2ULL << FT_ENTRY_SHIFT)	/* PROT_NONE */
#define FT_ENTRY_UFFD_RWP		(3ULL << FT_ENTRY_SHIFT)
/* Present, or in swap format. */
#define FT_ENTRY_UFFD_WP		(5ULL << FT_ENTRY_SHIFT)
/* In swap format. */
#define FT_ENTRY_MIGRATION		(1ULL << FT_ENTRY_SHIFT)
#define FT_ENTRY_HWPOISON		(2ULL << FT_ENTRY_SHIFT)
#define FT_ENTRY_DEVICE_PRIVATE		(3ULL << FT_ENTRY_SHIFT)
#define FT_ENTRY_DEVICE_EXCLUSIVE	(4ULL << FT_ENTRY_SHIFT)
#define FT_ENTRY_POISONED		(6ULL << FT_ENTRY_SHIFT)
#define FT_ENTRY_GUARD			(7ULL << FT_ENTRY_SHIFT)
/* Empty, in a mapping registered with userfaultfd. */
#define FT_ENTRY_UFFD_MISSING		(1ULL << FT_ENTRY_SHIFT)
#define FT_ENTRY_UFFD_MINOR		(2ULL << FT_ENTRY_SHIFT)
/* Empty, while another CPU was changing the page table. */
#define FT_ENTRY_CHANGING		(3ULL << FT_ENTRY_SHIFT)

/* What a session is doing. */
#define FT_STATE_IDLE			0
#define FT_STATE_RUNNING		1
#define FT_STATE_STOPPED		2

/* What is lost when a ring is full: the new record, or the oldest ones. */
#define FT_MODE_DISCARD			0
#define FT_MODE_OVERWRITE		1

/* Flags of a session. */
#define FT_SESSION_FOLLOW		(1U << 0)	/* children become targets */
#define FT_SESSION_LOG			(1U << 1)	/* faults are printed to the kernel log */
#define FT_SESSION_BOOT			(1U << 2)	/* started by the module's parameter pid */
#define FT_SESSION_SIDEBAND		(1U << 3)	/* mappings, tasks, exits and losses too */
#define FT_SESSION_ALL			(1U << 4)	/* every process but the one that starts it */
#define FT_SESSION_LATENCY		(1U << 5)	/* the faults' returns too */
#define FT_SESSION_FTRACE		(1U << 6)	/* by an ftrace hook, not a kprobe */
#define FT_SESSION_STACK_FRAMES		(1U << 7)	/* user stacks too, by frame pointers */
#define FT_SESSION_STACK_COPY		(1U << 8)	/* user stacks too, as copies of their tops; both: as is enough */
#define FT_SESSION_RETELL		(1U << 9)	/* what is drained stands for itself */

/* The clock of a session's records. */
#define FT_CLOCK_MONOTONIC		0
#define FT_CLOCK_BOOTTIME		1
#define FT_CLOCK_RAW			2

/* Fields called reserved must be zero. */

struct ft_info {
	__u32 abi_version;
	__u32 fault_record_bytes;
	__u32 slot_bytes;
	__u32 cpus;		/* ids: 0..cpus */
	__u32 state;		/* FT_STATE_* */
	__u32 mode;		/* FT_MODE_* */
	__u32 flags;		/* FT_SESSION_* */
	__u32 live_targets;
	__u64 ring_bytes;	/* of each CPU */
	__u64 missed;
	__u64 ring_stride;	/* where the CPUs' rings begin in a mapping, and their parts: */
	__u32 producer_offset;
	__u32 consumer_offset;
	__u32 data_offset;
	__u32 max_sessions;
	__u64 missed_returns;
	__u64 deaf;		/* times that the probe was found not to hear */
	__u64 heard_ns;		/* when it was found to hear, before that */
	__u32 page_bytes;	/* of the kernel's pages; 0: 4096 */
	__u32 reserved;
};

struct ft_config {
	__u64 ring_bytes;
	__u32 mode;		/* FT_MODE_* */
	__u32 flags;		/* FT_SESSION_* but _LOG and _BOOT */
	__u64 watermark_bytes;	/* wakes poll; 0: a quarter of the ring */
	__u32 clock;		/* FT_CLOCK_* */
	__u32 stack;		/* most return addresses, or most bytes of a copy */
};

struct ft_target {
	__s32 pid;		/* in the caller's pid namespace */
	__u32 flags;		/* FT_TARGET_* */
};

#define FT_TARGET_ON_EXEC		(1U << 0)	/* a target from its next exec on */

/* Whom a session traces, by what they are. */
struct ft_rule {
	__u32 kind;		/* FT_RULE_* */
	__u32 flags;		/* FT_RULE_EXCEPT or 0 */
	__u64 value;		/* what is compared, see each kind */
	__u8 name[16];		/* of FT_RULE_NAME, ended by a zero byte */
};

#define FT_RULE_NONE			0	/* no rule */
#define FT_RULE_PROCESS			1	/* process id, in the caller's pid namespace */
#define FT_RULE_USER			2	/* effective user id, in the caller's user namespace */
#define FT_RULE_CGROUP			3	/* inode number of a cgroup2 folder: it and all below */
#define FT_RULE_EXECUTABLE		4	/* descriptor of the file that is executed */
#define FT_RULE_NAME			5	/* /proc/PID/comm */

#define FT_RULE_EXCEPT			(1U << 0)	/* those are no targets */
#define FT_RULES_MAX			64

/* Which faults a session records: one of the tests holds, the address is in one of the ranges, and each so manyth. */
struct ft_flag_test {
	__u64 mask;		/* FT_FAULT_* and FT_ENTRY_* */
	__u64 value;
};

struct ft_address_range {
	__u64 start;
	__u64 end;		/* behind the last */
};

#define FT_FILTER_TESTS			8

struct ft_filter {
	struct ft_flag_test tests[FT_FILTER_TESTS];		/* up to the first without a mask */
	struct ft_address_range ranges[FT_FILTER_TESTS];	/* up to the first without an end */
	__u32 every;		/* on each CPU; 0: all */
	__u32 reserved;
};

/* A mapping by its path or, without a slash, the last part of it. */
struct ft_filter_mapping {
	__u8 name[256];		/* ended by a zero byte */
};

#define FT_FILTER_MAPPINGS		16

struct ft_time {
	__u32 clock;		/* in: FT_CLOCK_* */
	__u32 reserved;
	__u64 time_ns;
	__s64 wall_offset_ns;	/* to be added, to get nanoseconds since 1970 */
	__u64 wall_error_ns;
};

struct ft_drain {
	__u64 buffer;		/* in: address, a multiple of 8 */
	__u32 length;		/* in: bytes, at least FT_SLOT_BYTES */
	__u32 cpu;		/* in */
	__u32 bytes;		/* out: whole records */
	__u32 gap_slots;	/* out: slots overwritten before them */
};

/* hits = recorded + dropped + overwritten, once the session is stopped; hits + passed_over were seen. */
struct ft_cpu_counters {
	__u32 cpu;		/* in */
	__u32 reserved0;
	__u64 hits;
	__u64 recorded;
	__u64 dropped;
	__u64 overwritten;
	__u64 pending;
	__u64 sideband_dropped;		/* TASK and EXIT records that did not fit */
	__u64 passed_over;		/* by the filter, and not among the hits */
};

struct ft_session_info {
	__u32 index;		/* in: 0..max_sessions */
	__u32 present;		/* 0: none, or another user's; the rest is zero */
	__u32 mode;		/* FT_MODE_* */
	__u32 flags;		/* FT_SESSION_* */
	__s32 owner_pid;	/* process ids of the reader's pid namespace, or 0 */
	__u32 live_targets;
	__u32 named_targets;
	__s32 first_target;
	__u8 owner_comm[16];
	__u64 ring_bytes;
	__u64 hits;
	__u64 recorded;
	__u64 dropped;
	__u64 overwritten;
	__u64 missed;
	__u64 running_ns;
	__u64 missed_returns;
	__u64 rules;
	__u64 passed_over;
};

#define FT_IOC_TYPE			0xF7

#define FT_IOC_INFO			_IOR(FT_IOC_TYPE, 0, struct ft_info)
#define FT_IOC_CONFIGURE		_IOW(FT_IOC_TYPE, 1, struct ft_config)
#define FT_IOC_TARGET_ADD		_IOW(FT_IOC_TYPE, 2, struct ft_target)
#define FT_IOC_TARGET_REMOVE		_IOW(FT_IOC_TYPE, 3, struct ft_target)
#define FT_IOC_START			_IO(FT_IOC_TYPE, 4)
#define FT_IOC_STOP			_IO(FT_IOC_TYPE, 5)
#define FT_IOC_DRAIN			_IOWR(FT_IOC_TYPE, 6, struct ft_drain)
#define FT_IOC_CPU_COUNTERS		_IOWR(FT_IOC_TYPE, 7, struct ft_cpu_counters)
#define FT_IOC_ADOPT			_IO(FT_IOC_TYPE, 8)
#define FT_IOC_SESSION			_IOWR(FT_IOC_TYPE, 9, struct ft_session_info)
#define FT_IOC_CLOCK			_IOWR(FT_IOC_TYPE, 10, struct ft_time)
#define FT_IOC_RULE_ADD			_IOW(FT_IOC_TYPE, 11, struct ft_rule)
#define FT_IOC_FILTER			_IOW(FT_IOC_TYPE, 12, struct ft_filter)
#define FT_IOC_FILTER_MAPPING		_IOW(FT_IOC_TYPE, 13, struct ft_filter_mapping)
#define FT_IOC_TELL_ALIVE		_IO(FT_IOC_TYPE, 14)

#endif /* _UAPI_LINUX_FAULT_TRACER_H */
