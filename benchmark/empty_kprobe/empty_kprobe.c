// SPDX-License-Identifier: GPL-2.0-only
/*
 * A kprobe on handle_mm_fault whose handler does nothing: the least that a tracer by kprobe can cost.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

static int on_fault(struct kprobe *probe, struct pt_regs *regs)
{
	return 0;
}

static struct kprobe probe = {
	.symbol_name = "handle_mm_fault",
	.pre_handler = on_fault,
};

static int __init empty_kprobe_init(void)
{
	return register_kprobe(&probe);
}

static void __exit empty_kprobe_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(empty_kprobe_init);
module_exit(empty_kprobe_exit);
MODULE_DESCRIPTION("A kprobe on handle_mm_fault that does nothing");
MODULE_LICENSE("GPL");
