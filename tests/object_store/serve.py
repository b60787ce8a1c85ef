"""Serves S3 on loopback for as long as somebody holds a lock: OpenStack Swift, all of it on one disk.

Run by the interpreter that has Swift, with a directory, a file that its users hold a shared lock
of, and a file to write its address into once it answers. It needs no rights but to that directory,
which has to be on a file system with extended attributes.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_BACKENDS = ("account", "container", "object")
_MODULES = {"account": "account", "container": "container", "object": "obj", "proxy": "proxy"}
# Of prctl(2): what a process gets when its parent ends.
_SET_DEATH_SIGNAL = 1
_START_S = 60.0
_SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {root}/etc
devices = {root}/devices
mount_check = false
workers = 0
log_level = WARNING
log_address = /dev/null
recon_cache_path = {root}/cache
"""
_BACKEND = """\
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """\
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
min_segment_size = 1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""
_SWIFT = """\
[swift-hash]
swift_hash_path_suffix = loopback
swift_hash_path_prefix = loopback
[storage-policy:0]
name = default
default = yes
"""


def main(root: str, users: str, address: str) -> int:
    """Start it in a process of its own; returns when it answers, or with 1 when it does not."""
    ready, answers = os.pipe()
    if os.fork():
        os.close(answers)
        return 0 if os.read(ready, 1) else 1
    # Ctrl-C ends the tests, and the last of them ends the store.
    os.setsid()
    os.close(ready)
    serve(root, users, address, answers)
    return 0


def serve(root: str, users: str, address: str, answers: int) -> None:
    """Configure, start, say so, and stay until nobody uses it."""
    ports = _free_ports(4)
    _configure(Path(root), ports)
    children = [_server(name, f"{root}/etc") for name in _MODULES]
    try:
        for port in ports:
            _wait_for(port)
        Path(f"{address}.part").write_text(json.dumps({"port": ports[-1], "pid": os.getpid()}))
        os.replace(f"{address}.part", address)
        os.write(answers, b"1")
        _stay(users)
        os.unlink(address)
    finally:
        for child in children:
            child.kill()
            child.wait()
        shutil.rmtree(root)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _configure(root: Path, ports: list[int]) -> None:
    # In the store's own interpreter alone.
    from swift.common.ring.builder import RingBuilder

    for folder in ("etc", "devices/d1", "cache"):
        (root / folder).mkdir(parents=True)
    (root / "etc/swift.conf").write_text(_SWIFT)
    user = pwd.getpwuid(os.getuid()).pw_name
    for name, port in zip((*_BACKENDS, "proxy"), ports, strict=True):
        own = _PROXY if name == "proxy" else _BACKEND.format(name=name)
        common = _SERVER.format(port=port, root=root, user=user)
        (root / f"etc/{name}-server.conf").write_text(common + own)
        if name == "proxy":
            continue
        ring = RingBuilder(4, 1, 1)
        place = {"ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1.0}
        ring.add_dev({"region": 1, "zone": 1, **place})
        ring.rebalance()
        ring.get_ring().save(str(root / f"etc/{name}.ring.gz"))


def _server(name: str, etc: str) -> subprocess.Popen[bytes]:
    # Swift would read /etc/swift/swift.conf, which only root may write.
    code = (
        "import sys; from swift.common import utils; utils.set_swift_dir(sys.argv[1]); "
        f"from swift.{_MODULES[name]}.server import main; "
        f"sys.argv[1:] = [sys.argv[1] + '/{name}-server.conf']; main()"
    )
    command = [sys.executable, "-c", code, etc]
    # No thread runs yet that could hold a lock at the fork.
    return subprocess.Popen(command, preexec_fn=_die_with_parent)  # noqa: PLW1509  # see above


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _wait_for(port: int) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def _stay(users: str) -> None:
    """Until nobody holds the lock: locks end with whoever held them, however that ended."""
    with open(users, "rb") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            else:
                return


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
