"""The servers: each a function `serve(listener)` that echoes until its process is ended."""
