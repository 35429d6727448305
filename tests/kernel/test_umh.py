"""User programs started by the kernel: call_usermodehelper() in its three modes, and its errors."""

from __future__ import annotations
