"""What processes of this machine have used so far."""

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, all threads, user and system."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def child_of_this_process(name: str) -> int:
    """Return the pid of this process's child whose program begins with `name`."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            program, fields = stat.read_text().partition("(")[2].rpartition(")")[0], _stat(int(stat.parent.name))
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == os.getpid() and program.startswith(name):
            return int(stat.parent.name)
    raise LookupError(f"this process has no child {name}")


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
