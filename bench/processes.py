"""What the operating system tells of a process, and which core it runs on."""

import os
import time
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CPU_CLOCK = 2
"""Of a process, all threads, user and system: the number that glibc's clock_getcpuclockid makes of a process id."""


def cores() -> tuple[int, int]:
    """The core of the server, and that of the load side: the same one where there is no second."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1 if len(allowed) > 1 else 0]


def cpu_s(process_id: int) -> float:
    """User and system seconds of all threads of a process, ended ones included."""
    return time.clock_gettime((~process_id << 3) | _CPU_CLOCK)


def resident_bytes(process_id: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * PAGE_BYTES


def busy_s() -> float:
    """Seconds that all cores together have worked since the machine started."""
    user, nice, system, _, _, interrupts, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / TICKS_PER_S


class Disturbance:
    """How much others worked on this machine meanwhile, in cores: it spoils latencies, and a little of everything."""

    def __init__(self, *ours: int) -> None:
        self._ours = ours
        self._begun_at, self._begun_s = time.perf_counter(), self._others_s()

    def cores(self) -> float:
        """Cores that were busy with other processes since the beginning, on average."""
        return max(0.0, (self._others_s() - self._begun_s) / (time.perf_counter() - self._begun_at))

    def _others_s(self) -> float:
        return busy_s() - sum(map(cpu_s, self._ours))
