// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's structures of which the module writes down the offsets by hand, since the kernel crate has no bindings
 * for them: compared with the headers that it is built against. It is compiled, and no part of the module. The numbers
 * stand in the Rust files, too, where they are compared with the module's own structures.
 */

#include <linux/build_bug.h>
#include <linux/clocksource.h>
#include <linux/fs_struct.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/proc_fs.h>
#include <linux/sched/exec_state.h>
#include <linux/stddef.h>
#include <linux/timekeeper_internal.h>

#define IS_AT(offset, type, member) \
	static_assert(offsetof(struct type, member) == (offset), \
		      "this kernel has " #member " of struct " #type " at another place: see A new series in docs/porting.md")

/* fault_tracer/probe.rs */
IS_AT(32, kprobe, nmissed);
IS_AT(40, kprobe, addr);
IS_AT(48, kprobe, symbol_name);
IS_AT(64, kprobe, pre_handler);
IS_AT(0, kretprobe, kp);
#ifdef CONFIG_X86_64
IS_AT(120, kprobe, flags);
IS_AT(128, kretprobe, handler);
IS_AT(136, kretprobe, entry_handler);
IS_AT(144, kretprobe, maxactive);
IS_AT(148, kretprobe, nmissed);
IS_AT(152, kretprobe, data_size);
#endif
#ifdef CONFIG_ARM64
IS_AT(112, kprobe, flags);
IS_AT(120, kretprobe, handler);
IS_AT(128, kretprobe, entry_handler);
IS_AT(136, kretprobe, maxactive);
IS_AT(140, kretprobe, nmissed);
IS_AT(144, kretprobe, data_size);
#endif
#ifdef CONFIG_KRETPROBE_ON_RETHOOK
IS_AT(160, kretprobe, rh);
IS_AT(16, rethook_node, llist);
IS_AT(24, rethook_node, rethook);
IS_AT(32, rethook_node, ret_addr);
IS_AT(40, rethook_node, frame);
IS_AT(48, kretprobe_instance, data);
#else
IS_AT(152, kretprobe, rph);
IS_AT(16, kretprobe_instance, llist);
IS_AT(24, kretprobe_instance, rph);
IS_AT(32, kretprobe_instance, ret_addr);
IS_AT(40, kretprobe_instance, fp);
IS_AT(48, kretprobe_instance, data);
#endif

/* fault_tracer/ftrace.rs */
IS_AT(0, ftrace_ops, func);
IS_AT(16, ftrace_ops, flags);
IS_AT(24, ftrace_ops, private);

/* fault_tracer/rights.rs */
IS_AT(0, proc_fs_info, pid_ns);
IS_AT(4, task_exec_state, dumpable);

/* fault_tracer/path.rs; struct mount is in no header */
#if !defined(CONFIG_DEBUG_SPINLOCK) && !defined(CONFIG_DEBUG_LOCK_ALLOC)
IS_AT(IS_ENABLED(CONFIG_PREEMPT_RT) ? 64 : 24, fs_struct, root);
#endif

#ifdef CONFIG_X86_64
/* fault_tracer/arch/x86_64/clock.rs */
IS_AT(0, timekeeper, tkr_mono);
IS_AT(0, tk_read_base, clock);
IS_AT(8, tk_read_base, mask);
IS_AT(16, tk_read_base, cycle_last);
IS_AT(24, tk_read_base, mult);
IS_AT(28, tk_read_base, shift);
IS_AT(32, tk_read_base, xtime_nsec);
IS_AT(40, tk_read_base, base);
IS_AT(40, clocksource, max_cycles);
IS_AT(92, clocksource, vdso_clock_mode);
#endif
