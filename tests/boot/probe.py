"""What a program in the daemon's place can do: run within its unit, it prints what it finds."""

import json
import mmap
import os
import socket
import sys
from pathlib import Path

WRITABLE = mmap.PROT_WRITE | mmap.PROT_EXEC


def refused(attempt, *args, **kwargs):
    """Return why something can't be done; nothing if it can."""
    try:
        attempt(*args, **kwargs)
    except OSError as e:
        return os.strerror(e.errno)
    return ""


def refused_file(path, mode="w"):
    """Return why a file can't be opened."""
    return refused(lambda: Path(path).open(mode).close())


def main():
    processes = [path for path in Path("/proc").iterdir() if path.name.isdecimal()]
    found = {
        "user": os.getuid(),
        "users seen": sorted({path.stat().st_uid for path in processes}),
        "secret": (Path(os.environ["CREDENTIALS_DIRECTORY"]) / "ops_token").read_text(),
        "file of the secret": refused_file("/etc/aggregator/credentials/ops_token", "r"),
        "home": refused(os.listdir, "/root"),
        "usr": refused_file("/usr/written"),
        "opt": refused_file("/opt/aggregator/written"),
        "etc": refused_file("/etc/aggregator/written"),
        "var": refused_file("/var/written"),
        "kernel": refused_file("/proc/sys/kernel/core_pattern"),
        "device": refused(os.mknod, "/tmp/disk", 0o60600, os.makedev(8, 0)),
        "code": refused(mmap.mmap, -1, mmap.PAGESIZE, prot=WRITABLE),
        "netlink": refused(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
        "internet": refused(socket.socket, socket.AF_INET),
        "interfaces": [line.split(":")[0].strip() for line in interfaces()],
    }
    sys.stdout.write(f"probe: {json.dumps(found)}\n")


def interfaces():
    """Return the lines of the network's interfaces, with what they have sent and received."""
    return Path("/proc/self/net/dev").read_text().splitlines()[2:]


main()
