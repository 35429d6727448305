"""TCP echo over loopback: kernel threads on host sockets against what else there is; `python -m benchmarks.echo`."""
