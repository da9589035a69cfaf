"""nginx as a plain reverse proxy on loopback, from Debian's package; and how to get it."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_CONFIGURATION = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_max_temp_file_size 0;
    upstream behind {{ server {behind}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""
_START_S_MAX = 10.0


def program() -> str | None:
    """Return the nginx program, installed on demand where we may; None where it cannot be had."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", "nginx-light"],
            capture_output=True,
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
        found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    return found


def free_port() -> int:
    """Return a port of the loopback address that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def in_front_of(behind: str, folder: Path) -> Iterator[str | None]:
    """Have nginx pass requests on to `behind` (HOST:PORT); yield its address, None without it."""
    nginx = program()
    if nginx is None:
        yield None
        return
    folder.mkdir()
    # As root its worker would drop to another user, who may not write here.
    folder.chmod(0o777)
    port = free_port()
    settings = folder / "nginx.conf"
    settings.write_text(_CONFIGURATION.format(folder=folder, behind=behind, port=port))
    process = subprocess.Popen([nginx, "-c", str(settings), "-p", str(folder)])
    try:
        until = time.monotonic() + _START_S_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > until or process.poll() is not None:
                raise TimeoutError(f"nginx does not start: {(folder / 'nginx.log').read_text()}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
