"""The units of systemd/ under a real systemd: what they promise, and what they forbid."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

PROGRAM = "/opt/aggregator/.venv/bin/aggregator"
PYTHON = "/opt/aggregator/.venv/bin/python"
URL, GATEWAY = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
SIMULATOR = f"""
[Service]
ExecStart={PROGRAM} simulator --port 9000
"""
FEED = """
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["ws://127.0.0.1:9000/okx/ws/v5/public"]
"""
"""Where nobody listens, unless the simulator runs."""
OWN = """
[feeds]
[server]
publish_channels = ["own_trades"]
"""
CONFIG = "/etc/aggregator/aggregator.toml"
CREDENTIALS = "/etc/aggregator/credentials"
AS_JSON = ["-H", "Content-Type: application/json"]
TEST = [f"{URL}/ws/test", *AS_JSON, "-d", '{"message": "Hello"}']
TRADE = {
    "type": "trade_executed",
    "channel": "own_trades",
    "instrument": "BTC/USDT",
    "data": {"id": "7", "side": "buy", "price": "1.5", "quantity": "2"},
}
CLIENTS, RESTARTS = 10, 2
READ_ONLY, DENIED = "Read-only file system", "Permission denied"
NOT_PERMITTED, NO_SUCH_FAMILY = (
    "Operation not permitted",
    "Address family not supported by protocol",
)


def main_pid(machine, unit="aggregator"):
    [pid] = machine.show(unit, "MainPID")
    return int(pid)


def fields(machine, path):
    """Return a file of lines `key: value`, or `key  value`, by key."""
    return dict(line.split(":", 1) for line in machine.run("cat", path).splitlines())


def channels(machine, url):
    """Return what a daemon says of its channels, by name."""
    status, body = machine.curl(f"{url}/channels")
    assert status == 200
    return {each["channel"]: each for each in json.loads(body)["channels"]}


def open_files(machine, pid):
    """Return how many files a process may have open at most: the hard limit, and the soft one."""
    lines = machine.run("cat", f"/proc/{pid}/limits").splitlines()
    [line] = [line for line in lines if line.startswith("Max open files")]
    return [int(number) for number in reversed(line.split()[3:5])]


def probed(machine, unit):
    """Start what looks around in place of the daemon; return what it has found."""
    machine.write("/opt/probe.py", Path(__file__).with_name("probe.py").read_text())
    machine.drop_in(unit, "ExecStart=", f"ExecStart={PYTHON} /opt/probe.py", "Type=oneshot")
    machine.start(unit)
    [entry] = machine.logged(unit, "^probe: ")
    return json.loads(entry["MESSAGE"].partition(": ")[2])


def test_it_says_how_it_is(machine):
    """Started means ready; the status tells of feeds and clients as they come."""
    machine.write("/etc/systemd/system/simulator.service", SIMULATOR)
    machine.write(CONFIG, FEED)
    machine.start("simulator")
    machine.logged("simulator", "9000")
    machine.start("aggregator")
    state = machine.show("aggregator", "ActiveState", "SubState", "NRestarts")
    assert state == ["active", "running", "0"]
    assert machine.curl(f"{URL}/healthz")[0] == 200
    machine.logged("aggregator", "feed bitcoinprice live")
    with machine.running(PROGRAM, "watch", "bitcoinprice", "--json") as client:
        assert json.loads(client.stdout.readline())["channel"] == "bitcoinprice"
        expected = ["1 of 1 feeds live, 1 clients"]
        machine.until(lambda: machine.show("aggregator", "StatusText") == expected)


def test_it_can_do_nothing_but_its_work(machine):
    """As a user of its own that may write nowhere and sees nobody else."""
    machine.write(f"{CREDENTIALS}/ops_token", "s3cret\n")
    found = probed(machine, "aggregator")
    user = found["user"]
    assert 61184 <= user <= 65519, "a dynamic user"
    assert found == {
        "user": user,
        "users seen": [user],
        "secret": "s3cret\n",
        "file of the secret": DENIED,
        "home": DENIED,
        **dict.fromkeys(("usr", "opt", "var"), READ_ONLY),
        "etc": DENIED,
        "kernel": "No such file or directory",
        "device": NOT_PERMITTED,
        "code": NOT_PERMITTED,
        "netlink": NO_SUCH_FAMILY,
        "internet": "",
        "interfaces": ["lo"],
    }


def test_it_has_no_rights(machine):
    """No capability, few system calls; but enough files."""
    machine.start("aggregator")
    pid = main_pid(machine)
    status = {key: value.split() for key, value in fields(machine, f"/proc/{pid}/status").items()}
    [user] = set(status["Uid"])
    assert user != "0"
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    # systemd gives as many as it may give itself.
    [most, *_] = open_files(machine, 1)
    assert open_files(machine, pid) == [min(most, 65536)] * 2


def test_its_secrets_are_its_own(machine):
    """The daemon has the one that only root may read, and no other user its copy."""
    machine.write(f"{CREDENTIALS}/ops_token", "s3cret\n")
    machine.start("aggregator")
    assert machine.curl(*TEST)[0] == 401
    assert machine.curl(*TEST, "-H", "Authorization: Bearer s3cret")[0] == 200
    copy = "/run/credentials/aggregator.service/ops_token"
    assert machine.run("cat", copy) == "s3cret"
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat"]
    for path in (copy, f"{CREDENTIALS}/ops_token"):
        assert DENIED in machine.run(*as_nobody, path, check=False)
    environment = machine.run("cat", f"/proc/{main_pid(machine)}/environ")
    assert "s3cret" not in environment + str(machine.journal("aggregator"))


def test_one_that_hangs_is_killed_and_started_again(machine):
    """After `WatchdogSec`; so is one whose loop is blocked."""
    machine.drop_in("aggregator", "WatchdogSec=2", "RestartSec=0", "LimitCORE=0")
    machine.start("aggregator")
    before = main_pid(machine)
    machine.run("kill", "-STOP", before)
    machine.logged("aggregator", "Watchdog timeout")
    machine.logged("aggregator", "^Started", times=2)
    assert machine.show("aggregator", "SubState", "NRestarts") == ["running", "1"]
    assert main_pid(machine) != before
    assert machine.curl(f"{URL}/healthz")[0] == 200


def test_one_that_does_not_hang_is_left_alone(machine):
    """Also with nothing to do: the watchdog hears from it often enough."""
    machine.drop_in("aggregator", "WatchdogSec=3")
    machine.start("aggregator")
    times = set()

    def heard_of():
        times.update(machine.show("aggregator", "WatchdogTimestampMonotonic"))
        return len(times) > 4

    machine.until(heard_of)
    assert "0" not in times
    assert machine.show("aggregator", "SubState", "NRestarts") == ["running", "0"]


def test_a_reload_takes_another_configuration_over(machine):
    """In the same process; one that can't be used changes nothing."""
    machine.start("aggregator")
    pid = main_pid(machine)

    def feeds():
        return [name for name, each in channels(machine, URL).items() if each["connector"]]

    assert feeds() == []
    machine.write(CONFIG, FEED)
    machine.systemctl("reload", "aggregator")
    machine.logged("aggregator", "configuration read again")
    assert feeds() == ["bitcoinprice"]
    machine.write(CONFIG, "[server]\nport = -1\n")
    machine.systemctl("reload", "aggregator")
    [entry] = machine.logged("aggregator", "configuration is not taken over")
    assert entry["PRIORITY"] == "3"
    # Ready again, in systemd's eyes as well.
    machine.until(lambda: machine.show("aggregator", "ActiveState") == ["active"])
    assert feeds() == ["bitcoinprice"]
    assert main_pid(machine) == pid
    assert machine.show("aggregator", "NRestarts") == ["0"]


@pytest.mark.parametrize("unit", ["aggregator", "aggregator-gateway"])
def test_a_bad_configuration_is_not_tried_again(machine, unit):
    """It ends with 78, and the journal says what is wrong."""
    path = {"aggregator": CONFIG, "aggregator-gateway": "/etc/aggregator/gateway.toml"}[unit]
    machine.write(path, "[server]\nport = -1\n")
    machine.drop_in(unit, "RestartSec=0")
    machine.systemctl("start", unit, check=False)
    [entry] = machine.logged(unit, "server.port = -1")
    assert entry["PRIORITY"] == "3"
    state = machine.show(unit, "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    assert state == ["failed", "exit-code", "78", "0"]


def test_one_that_fails_is_started_again(machine):
    """Whatever it died of."""
    machine.drop_in("aggregator", "RestartSec=0", "LimitCORE=0")
    machine.start("aggregator")
    machine.run("kill", "-SEGV", main_pid(machine))
    machine.logged("aggregator", "^Started", times=2)
    assert machine.show("aggregator", "SubState", "NRestarts") == ["running", "1"]


def test_it_stops_in_time(machine):
    """With feeds that can't connect and clients that stay: within 5 s, told to systemd, with 0."""
    machine.write(CONFIG, FEED)
    machine.drop_in("aggregator", "TimeoutStopSec=5")
    machine.start("aggregator")
    with machine.running(PROGRAM, "watch", "system", "--json") as client:
        client.stdout.readline()
        machine.systemctl("stop", "aggregator")
    said = [entry["MESSAGE"] for entry in machine.journal("aggregator")]
    assert 'level=info logger=aggregator.app msg="stopped"' in said
    # Had it taken longer, or ended otherwise, it would say: Failed with result ...
    assert "aggregator.service: Deactivated successfully." in said


def test_what_it_learned_is_kept(machine):
    """At its end, in the directory for its state, which is nobody else's."""
    machine.write(CONFIG, FEED)
    machine.start("aggregator")
    machine.systemctl("restart", "aggregator")
    assert machine.run("ls", "/var/lib/aggregator/").split() == ["rhythms.jsonl"]
    assert machine.run("stat", "--format=%a", "/var/lib/private/aggregator/").strip() == "700"
    warnings = [e["MESSAGE"] for e in machine.journal("aggregator", "--priority=warning")]
    assert not [message for message in warnings if "rhythms" in message]


def test_the_journal_knows_what_matters(machine):
    """Each line is logfmt without a time of its own, its priority is the journal's."""
    machine.write(CONFIG, FEED)
    machine.start("aggregator")
    [down, *_] = machine.logged("aggregator", "feed bitcoinprice down")
    assert down["MESSAGE"].startswith("level=warning logger=aggregator.ingest.")
    assert (down["PRIORITY"], down["SYSLOG_IDENTIFIER"]) == ("4", "aggregator")
    [listening] = machine.logged("aggregator", "listening on ws://127.0.0.1:8000/ws")
    assert listening["MESSAGE"].startswith("level=info logger=aggregator.app msg=")
    assert listening["PRIORITY"] == "6"
    warnings = [e["MESSAGE"] for e in machine.journal("aggregator", "--priority=warning")]
    assert down["MESSAGE"] in warnings
    assert listening["MESSAGE"] not in warnings


def test_nobody_is_refused_while_it_restarts(machine):
    """With the socket unit: who connects meanwhile waits, also while the daemon is long to stop."""
    machine.write("/opt/connecting.py", Path(__file__).with_name("connecting.py").read_text())
    machine.start("aggregator.socket", "aggregator.service")
    command = [PYTHON, "/opt/connecting.py", "ws://127.0.0.1:8000/ws", CLIENTS]
    with machine.running(*command, stdin=subprocess.PIPE) as clients:
        assert clients.stdout.readline() == "connecting\n"
        for _ in range(RESTARTS):
            machine.systemctl("restart", "aggregator")
        output, _ = clients.communicate("\n")
    seen = json.loads(output)
    assert seen.pop("answered") > 0
    seen.pop("closed", None)  # with 1001, who was connected
    # Who was let in at the very moment may be asked to come again, but once.
    assert seen.pop("status 503", 0) <= CLIENTS * RESTARTS
    assert seen == {}


def test_the_socket_alone_starts_the_daemon(machine):
    """With the first client, which waits for it."""
    machine.start("aggregator.socket")
    assert machine.show("aggregator", "ActiveState") == ["inactive"]
    assert machine.curl(f"{URL}/healthz")[0] == 200
    assert machine.show("aggregator", "ActiveState") == ["active"]


def test_the_gateway_serves_without_a_network(machine):
    """What is published through its socket goes to who connects there; it reaches nobody itself."""
    machine.write(f"{CREDENTIALS}/gateway_ops_token", "s3cret\n")
    machine.write("/etc/aggregator/gateway.toml", OWN)
    found = probed(machine, "aggregator-gateway")
    assert found["secret"] == "s3cret\n"
    assert found["internet"] == NO_SUCH_FAMILY
    assert [found[name] for name in ("usr", "opt", "var")] == [READ_ONLY] * 3
    machine.drop_in("aggregator-gateway")
    machine.start("aggregator-gateway")
    pid = main_pid(machine, "aggregator-gateway")
    networks = [machine.run("readlink", f"/proc/{each}/ns/net") for each in (1, pid)]
    assert networks[0] != networks[1]
    assert machine.curl(f"{GATEWAY}/readyz")[0] == 200
    watching = [PROGRAM, "watch", "own_trades", "--json", "--url", "ws://127.0.0.1:8001/ws"]
    with machine.running(*watching) as client:
        machine.until(lambda: channels(machine, GATEWAY)["own_trades"]["subscribers"] == 1)
        publish = [f"{GATEWAY}/publish", *AS_JSON, "-d", json.dumps(TRADE)]
        assert machine.curl(*publish)[0] == 401
        assert machine.curl(*publish, "-H", "Authorization: Bearer s3cret")[0] == 200
        message = json.loads(client.stdout.readline())
    assert (message["channel"], message["instrument"]) == ("own_trades", "BTC/USDT")


def test_the_gateway_can_not_send(machine):
    """Even with sockets and a network: no address is let through, but that of its clients."""
    machine.write("/etc/aggregator/gateway.toml", OWN)
    lines = ["PrivateNetwork=no", "RestrictAddressFamilies=AF_INET"]
    connect = "import socket; socket.create_connection(('127.0.0.1', 8001), timeout=1)"
    machine.drop_in("aggregator-gateway", *lines, f'ExecStartPost=-{PYTHON} -c "{connect}"')
    machine.start("aggregator-gateway")
    machine.logged("aggregator-gateway", "timed out|not permitted")
    assert machine.curl(f"{GATEWAY}/healthz")[0] == 200
