"""Writers of trace formats; they read `kernel.sched.trace.records`."""
