"""lkl_green: a cooperative, Linux-shaped kernel as a Python library.

Each kernel thread is a greenlet, a context switch is one `greenlet.switch()`, and the application loops on
`lkl_run()`. In-kernel code imports `lkl_green.linux`; the application imports from here.
"""

from lkl_green import errors as errors
from lkl_green.arch.lkl_cpu import LKL_CPU_IN_SHUTDOWN as LKL_CPU_IN_SHUTDOWN
from lkl_green.arch.lkl_cpu import LKL_CPU_IN_USE as LKL_CPU_IN_USE
from lkl_green.arch.lkl_cpu import LKL_CPU_LOCKED as LKL_CPU_LOCKED
from lkl_green.arch.lkl_cpu import LKL_CPU_MAX_THREAD as LKL_CPU_MAX_THREAD
from lkl_green.boot import lkl_start_kernel as lkl_start_kernel
from lkl_green.errors import Deadlock as Deadlock
from lkl_green.errors import HaltTimeout as HaltTimeout
from lkl_green.errors import KernelBug as KernelBug
from lkl_green.errors import KernelHalted as KernelHalted
from lkl_green.errors import KernelPanic as KernelPanic
from lkl_green.errors import LklError as LklError
from lkl_green.host.clock import Clock as Clock
from lkl_green.host.clock import MonotonicClock as MonotonicClock
from lkl_green.host.clock import VirtualClock as VirtualClock
from lkl_green.host.faulty import FaultyHost as FaultyHost
from lkl_green.host.greenlets import GreenletHost as GreenletHost
from lkl_green.host.ops import HostOps as HostOps
from lkl_green.host.threads import ThreadHost as ThreadHost
from lkl_green.kernel.kernel import Kernel as Kernel
from lkl_green.kernel.loop import RunReason as RunReason
from lkl_green.kernel.loop import RunStatus as RunStatus
from lkl_green.kernel.loop import RunUntil as RunUntil
from lkl_green.kernel.policy import FixedPriority as FixedPriority
from lkl_green.kernel.policy import Policy as Policy
from lkl_green.kernel.policy import SchedulingPolicy as SchedulingPolicy
from lkl_green.trace.ftrace import format_trace as format_trace

__version__ = "0.1.0"
