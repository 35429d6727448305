"""Files: what stands between a descriptor number and a wait queue. Above the kernel, which does not know it."""
