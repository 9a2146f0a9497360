"""
A machine of its own with a real systemd, made in a moment: a container whose `/usr` is this
machine's, read-only, and where the project is laid out as docs/operations.md says.

There is no network in it but its own loopback.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30
"""After so long a test has failed; it is never waited for where all is well."""
PROGRAMS = ("systemd-nspawn", "nsenter", "setpriv", "curl")
PYTHON = Path("/opt/python")
DEPENDENCIES = Path("/opt/dependencies")
INSTALLED = Path("/opt/aggregator")
UNITS = ("aggregator", "aggregator-gateway")
TARGET = """
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""
COMMAND = """\
#!/opt/aggregator/.venv/bin/python
import sys
from aggregator.cli import main
sys.exit(main())
"""


def lacking() -> str:
    """Return what is missing here for such a machine; nothing, if there is all."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    if not Path("/bin").is_symlink():
        return "not all programs are in /usr here"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not Path("/usr/lib/systemd/systemd").exists():
        missing.append("systemd")
    return f"{', '.join(missing)} is not installed" if missing else ""


class Machine:
    """A booted machine, and what root does on it; `root` is its root directory."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._enter = [shutil.which("nsenter"), "--target", str(leader), "--all", "--"]
        self._since = "--since=@0"

    def run(self, *command: object, check: bool = True) -> str:
        """Run a command on it to its end; return what it prints."""
        with self.running(*command, stderr=subprocess.STDOUT) as process:
            output, _ = process.communicate(timeout=PATIENCE_S)
        assert not (check and process.returncode), f"{command}: {output}"
        return output.strip()

    @contextlib.contextmanager
    def running(self, *command: object, **kwargs) -> Iterator[subprocess.Popen[str]]:
        """Run a command on it meanwhile; it is killed at the end."""
        with subprocess.Popen(
            [*self._enter, *map(str, command)],
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin", "LANG": "C.UTF-8"},
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **kwargs},
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    _kill(process.pid)

    def systemctl(self, *args: str, check: bool = True) -> str:
        return self.run("systemctl", *args, check=check)

    def start(self, *units: str) -> None:
        """Start units; they have to be ready then."""
        text = self.systemctl("start", *units, check=False)
        assert not text, [text, *(e["MESSAGE"] for e in self.journal(units[-1]))]

    def show(self, unit: str, *properties: str) -> list[str]:
        """Return properties of a unit."""
        text = self.systemctl("show", unit, *(f"--property={name}" for name in properties))
        values = dict(line.split("=", 1) for line in text.splitlines())
        return [values[name] for name in properties]

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what nobody tells."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.1)

    def curl(self, url: str, *args: str) -> tuple[int, str]:
        """Ask a daemon on it; return status and body."""
        text = self.run("curl", "-sS", "-w", "\n%{http_code}", *args, url)
        body, _, status = text.rpartition("\n")
        return int(status), body

    def write(self, path: str, text: str) -> None:
        """Write a file on it that all may read."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o644)

    def drop_in(self, unit: str, *lines: str) -> None:
        """Change a unit, as `systemctl edit` does."""
        text = "\n".join(["[Service]", *lines, ""])
        self.write(f"/etc/systemd/system/{unit}.service.d/test.conf", text)
        self.systemctl("daemon-reload")

    def logged(self, unit: str, pattern: str, times: int = 1) -> list[dict[str, str]]:
        """Wait until so many lines of a unit, since `reset`, match; return these entries."""
        command = ["journalctl", "--follow", "--lines=all", "--output=json", f"--unit={unit}"]
        found: list[dict[str, str]] = []
        with self.running(*command, self._since) as process:
            late = threading.Timer(PATIENCE_S, _kill, [process.pid])
            late.start()
            try:
                for line in process.stdout:
                    entry = json.loads(line)
                    if re.search(pattern, str(entry["MESSAGE"])):
                        found.append(entry)
                    if len(found) == times:
                        return found
            finally:
                late.cancel()
        raise AssertionError([pattern, *(e["MESSAGE"] for e in self.journal(unit))])

    def journal(self, unit: str, *args: str) -> list[dict[str, str]]:
        """Return the entries of a unit since `reset`."""
        text = self.run("journalctl", "--output=json", f"--unit={unit}", *args, self._since)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def reset(self) -> None:
        """Stop everything, and forget what was changed and logged."""
        names = [f"{unit}.{kind}" for unit in UNITS for kind in ("socket", "service")]
        self.systemctl("stop", *names, "simulator.service", check=False)
        self.systemctl("reset-failed")
        for folder in (self.root / "etc/systemd/system").glob("*.d"):
            shutil.rmtree(folder)
        for secret in (self.root / "etc/aggregator/credentials").iterdir():
            secret.unlink()
        self.systemctl("daemon-reload")
        self.run("journalctl", "--sync")
        self._since = f"--since=@{time.time():.6f}"


def _kill(entered: int) -> None:
    """Kill what runs on a machine; what has entered it for that ends by itself."""
    children = Path(f"/proc/{entered}/task/{entered}/children").read_text()
    for pid in map(int, children.split() or [entered]):
        os.kill(pid, signal.SIGKILL)


def install(root: Path) -> list[str]:
    """
    Lay the machine out in an empty folder.

    Returns:
        What of this machine it has to see, as options of systemd-nspawn.

    """
    etc = root / "etc"
    for name in ("usr", "etc/aggregator/credentials", "etc/systemd/system", "home", "tmp"):
        (root / name).mkdir(parents=True)
    (etc / "aggregator/credentials").chmod(0o700)
    for name in ("bin", "lib", "lib64", "sbin"):
        if (there := Path("/", name)).is_symlink():
            (root / name).symlink_to(there.readlink())
    shutil.copy("/etc/os-release", etc)
    # Empty, or this were a first boot, with everything enabled that there is.
    (etc / "machine-id").write_text("")
    (etc / "passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "systemd/journald.conf").write_text("[Journal]\nStorage=volatile\n")
    (etc / "ld.so.conf").write_text(f"{PYTHON}/lib\n")
    (etc / "systemd/system/default.target").write_text(TARGET)
    for unit in (ROOT / "systemd").iterdir():
        shutil.copy(unit, etc / "systemd/system")
    return ["--bind-ro=/usr", *_install_environment(root)]


def _install_environment(root: Path) -> list[str]:
    """Lay out the virtual environment; the interpreter and the dependencies are this one's."""
    venv = root / INSTALLED.relative_to("/") / ".venv"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = venv / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (packages / "dependencies.pth").write_text(f"{DEPENDENCIES}\n")
    for package in ("aggregator", "connectors"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, packages / package, ignore=skipped)
    # As pip does; the daemon itself may not write there.
    compileall.compile_dir(packages, quiet=2, stripdir=root)
    prefix = Path("/usr") if sys.base_prefix == "/usr" else PYTHON
    python = prefix / Path(sys.executable).resolve().relative_to(sys.base_prefix)
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to(python)
    (venv / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    (venv / "bin/aggregator").write_text(COMMAND)
    (venv / "bin/aggregator").chmod(0o755)
    here = Path(sys.prefix) / "lib" / version / "site-packages"
    seen = [f"--bind-ro={here}:{DEPENDENCIES}"]
    return seen if prefix != PYTHON else [*seen, f"--bind-ro={sys.base_prefix}:{PYTHON}"]


@contextlib.contextmanager
def booted(root: Path, told: Path) -> Iterator[Machine]:
    """
    Boot a machine, and switch it off at the end; also when this process is killed.

    Args:
        root: an empty folder, its root directory.
        told: where a socket can be made, on which it says that it has booted.

    """
    seen = install(root)
    nspawn = Path(shutil.which("systemd-nspawn"))
    with nspawn.open("rb") as lock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        # One at a time: where systemd does not run this machine, all have one control group.
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready.bind(str(told))
        command = [
            *(shutil.which("setpriv"), "--pdeathsig=TERM", nspawn, "--quiet", "--boot"),
            *("--console=pipe", "--notify-ready=yes", "--register=no", "--private-network"),
            *(f"--directory={root}", f"--machine=aggregator-{os.getpid()}", *seen),
            # So that it can filter addresses.
            *("--system-call-filter=bpf", "--capability=CAP_BPF,CAP_NET_ADMIN"),
            *([] if Path("/run/systemd/system").exists() else ["--keep-unit"]),
        ]
        environ = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "NOTIFY_SOCKET": str(told)}
        with (root / "console").open("w") as console:
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        said: dict[str, str] = {}
        try:
            while said.get("READY") != "1":
                more = _said(process, ready)
                assert more, (root / "console").read_text()
                said |= more
            machine = Machine(root, int(said["X_NSPAWN_LEADER_PID"]))
            machine.run("ldconfig")
            yield machine
        finally:
            _switch_off(process, said)
            _tidy_up()


def _said(process: subprocess.Popen[bytes], ready: socket.socket) -> dict[str, str]:
    """Return what is said next of how it boots; nothing, if it ends or says nothing for long."""
    end = os.pidfd_open(process.pid)
    try:
        readable, _, _ = select.select([ready, end], [], [], PATIENCE_S)
    finally:
        os.close(end)
    if ready not in readable:
        return {}
    lines = ready.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def _switch_off(process: subprocess.Popen[bytes], said: dict[str, str]) -> None:
    """Shut it down in order; if that fails, in any case."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        # First what it runs: that does not end with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(said["X_NSPAWN_LEADER_PID"]), signal.SIGKILL)
        process.kill()
        process.wait()
        raise


def _tidy_up() -> None:
    """Remove the control groups that it leaves where systemd does not run this machine; empty."""
    for name in ("payload/init.scope", "payload", "supervisor"):
        for path in Path("/sys/fs/cgroup").glob(f"*/{name}"):
            with contextlib.suppress(OSError):
                path.rmdir()
