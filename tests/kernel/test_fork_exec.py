"""Birth of tasks: kernel_thread(), kernel_execve(), clone and execve: rules 75 to 83 (after Al Viro's design)."""

from __future__ import annotations
