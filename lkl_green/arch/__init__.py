"""How a task gets its execution context: greenlets, or LKL's semaphores and host threads."""
