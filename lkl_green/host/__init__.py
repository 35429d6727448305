"""What the machine gives: the host operations, on greenlets or on OS threads."""
