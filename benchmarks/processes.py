"""What the kernel says of a server's processes: who they are, their CPU time, their memory."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Process:
    """`born` tells a process from another that got its number later."""

    pid: int
    parent: int
    born: int
    cpu: float

    def alive(self) -> bool:
        now = read(self.pid)
        return now is not None and now.born == self.born


def read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, parent, *rest = text[text.rindex(")") + 2 :].split()
    cpu = (int(rest[9]) + int(rest[10])) / TICKS
    return None if state == "Z" else Process(pid=pid, parent=int(parent), born=int(rest[17]), cpu=cpu)


def tree(pid: int) -> list[Process]:
    """The process and all that descend from it."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    every = [found for number in numbers if (found := read(number))]
    wanted, found = {pid}, [each for each in every if each.pid == pid]
    while fresh := [each for each in every if each.parent in wanted and each.pid not in wanted]:
        wanted |= {each.pid for each in fresh}
        found += fresh
    return found


def cpu(pid: int) -> float:
    """CPU seconds of the tree so far."""
    return sum(each.cpu for each in tree(pid))


def memory(pid: int) -> float:
    """MB of the tree, shared pages divided among those who share them (PSS)."""
    total = 0
    for each in tree(pid):
        try:
            lines = Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
