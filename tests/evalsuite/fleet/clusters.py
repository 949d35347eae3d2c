"""Clusters of several nodes on this machine: Slurm without systemd or cgroups, Ray with a raylet a node."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_CONFIG = """\
ClusterName=fake
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
SlurmdTimeout=5
KillWait=5
MinJobAge=300
JobRequeue=1
MailProg=/bin/true
MpiDefault=none
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=4 RealMemory=4000 State=UNKNOWN
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """Three nodes; ``kill_node`` ends a node's daemon and all that it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"

    def start(self) -> None:
        for name in ("state", *(f"spool/n{number}" for number in (1, 2, 3))):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        names = [f"--{name}={self.folder}/munge{end}" for name, end in _MUNGE.items()]
        subprocess.run(["/usr/sbin/munged", "--force", f"--key-file={key}", *names], check=True, capture_output=True)
        host, port = socket.gethostname().partition(".")[0], _free_ports(4)
        nodes = [f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + n}" for n in (1, 2, 3)]
        self.config.write_text(_CONFIG.format(host=host, port=port, folder=self.folder, nodes="\n".join(nodes)))
        self.run("/usr/sbin/slurmctld", "-f", str(self.config))
        for number in (1, 2, 3):
            self.start_node(number)
        deadline = time.monotonic() + 120
        while self.run("sinfo", "-h", "-N", "-o", "%T").split().count("idle") < 3:
            assert time.monotonic() < deadline, self.run("sinfo", "-N", "-l")
            time.sleep(0.1)

    def start_node(self, number: int) -> None:
        self.run("/usr/sbin/slurmd", "-f", str(self.config), "-N", f"n{number}")

    def run(self, *command: str) -> str:
        environment = {**os.environ, "SLURM_CONF": str(self.config)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    def stop(self) -> None:
        self.run("scancel", "--user=root")
        time.sleep(0.5)
        for path in [*self.folder.glob("slurmd-*.pid"), self.folder / "slurmctld.pid", self.folder / "munge.pid"]:
            with suppress(OSError, ValueError):
                os.kill(int(path.read_text()), signal.SIGTERM)


_MUNGE = {"socket": ".socket", "pid-file": ".pid", "log-file": ".log", "seed-file": ".seed"}


def _free_ports(n: int) -> int:
    """Return the first of ``n`` free ports in a row, below those that the system gives to whoever asks for any."""
    for first in random.sample(range(20_000, 32_000, 10), 50):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + n):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports in a row")


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """Start a Slurm cluster; skips the test where Slurm is not installed."""
    missing = [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip(f"needs Slurm and root (apt-get install slurm-wlm munge); missing: {', '.join(missing) or 'root'}")
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def ray_cluster(nodes: int = 2) -> Iterator[Any]:
    """Start a Ray cluster: a head without CPUs, and raylets of 4 CPUs each; skips the test without Ray."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_raylet_start_wait_time_s="120")
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    cluster.nodes = [cluster.add_node(num_cpus=4, wait=False, **memory) for _ in range(nodes)]
    try:
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
