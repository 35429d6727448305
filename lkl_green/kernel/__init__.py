"""The kernel: tasks, scheduler, kernel threads, wait queues, locks, interrupts, timers, system calls."""
