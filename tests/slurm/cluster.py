"""A SLURM in a folder: loopback only, no accounting, no cgroups, GPUs that are none; a second node for pairs."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

GPUS = 8
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
CONFIGURATION = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/run/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=bf_interval=2,sched_min_interval=100000,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
KillWait=5
MinJobAge=3600
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 Port={ports[1]} {node} Gres=gpu:fake:{gpus} State=UNKNOWN
NodeName={second} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} {node} Gres=gpu:fake:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=UNLIMITED DefaultTime=00:10:00 State=UP PriorityTier=1
PartitionName=gpu Nodes={host} MaxTime=UNLIMITED DefaultTime=00:10:00 State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=UNLIMITED State=UP PriorityTier=10
PartitionName=pairs Nodes={host},{second} MaxTime=UNLIMITED State=UP PriorityTier=1
"""
NODE = "CPUs=8 CoresPerSocket=8 RealMemory=20000"


class Cluster:
    """Starts in `folder`; `stop` ends every process that it started, by its number."""

    def __init__(self, folder: Path):
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.nodes = (self.host, f"{self.host}-second")
        self._write()
        munge = folder / "munge"
        self._run(
            "su", "-s", "/bin/sh", "munge", "-c",
            f"munged --key-file={munge}/etc/key --log-file={munge}/log/log --pid-file={munge}/run/pid"
            f" --seed-file={munge}/lib/seed --socket={munge}/run/socket",
        )  # fmt: skip
        self.start_controller()
        for node in self.nodes:
            self._run("slurmd", "-N", node)
        self.wait_for(lambda: set(self.output("sinfo", "-h", "-o", "%T").split()) == {"idle"}, "idle node", 20)

    def _write(self) -> None:
        for name in ("etc", "log", "lib", "run"):
            (self.folder / "munge" / name).mkdir(parents=True, mode=0o755 if name == "run" else 0o700)
        for name in ("state", "dev", *(f"spool.{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        key = self.folder / "munge/etc/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for path in (self.folder / "munge", *(self.folder / "munge").rglob("*")):
            shutil.chown(path, "munge", "munge")
        # munged asks that nobody else may write where its socket is, and has to get there.
        for parent in (self.folder, *self.folder.parents[:-1]):
            if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        for number in range(GPUS):
            os.mknod(self.folder / f"dev/nvidia{number}", 0o020666, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(
            "".join(
                f"NodeName={node} Name=gpu Type=fake File={self.folder}/dev/nvidia[0-{GPUS - 1}]\n"
                for node in self.nodes
            )
        )
        names = {"folder": self.folder, "host": self.host, "second": self.nodes[1]}
        text = CONFIGURATION.format(**names, node=NODE, gpus=GPUS, ports=_free_ports(3))
        (self.folder / "slurm.conf").write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def _run(self, *command: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, env=os.environ | self.environment, check=True, text=True, capture_output=True, **options
        )

    def output(self, *command: str) -> str:
        return self._run(*command).stdout.strip()

    def jobs(self, *states: str, name: str = "") -> dict[str, str]:
        """The jobs in these states (any if none is given) whose comment, the rule and its wildcards, holds `name`."""
        lines = self.output("squeue", "-h", "--states=all", "--format=%i %T %k").splitlines()
        rows = [line.split(maxsplit=2) for line in lines]
        return {row[0]: row[1] for row in rows if name in row[-1] and (not states or row[1] in states)}

    def job(self, *states: str, name: str, seconds: float = 60) -> str:
        """Waits for a job; its id."""
        return self.wait_for(lambda: next(iter(self.jobs(*states, name=name)), None), f"{states} {name}", seconds)

    def wait_for(self, condition, what: str, seconds: float = 60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if value := condition():
                    return value
            except subprocess.CalledProcessError:
                pass
            time.sleep(0.1)
        raise TimeoutError(f"no {what} within {seconds} s")

    def lose_node(self) -> None:
        """The node is down, its jobs are lost, and it comes back; by itself, or where it does not it is told to."""
        self.output("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=test")
        self.wait_for(lambda: not self.jobs("RUNNING"), "end of the jobs on the node")
        subprocess.run(
            ["scontrol", "update", f"NodeName={self.host}", "State=RESUME"], env=os.environ | self.environment
        )

    def start_controller(self) -> None:
        """Where none runs."""
        if (self.folder / "slurmctld.pid").exists():
            return
        self._run("slurmctld")
        self.wait_for(lambda: self.output("sinfo", "-h"), "controller", 20)

    def stop_controller(self) -> None:
        """As a crash does: nothing is told to the jobs."""
        self._end(self.folder / "slurmctld.pid", signal.SIGKILL)

    def _end(self, path: Path, number: int = signal.SIGTERM) -> None:
        if not path.exists():
            return
        process = int(path.read_text())
        try:
            os.kill(process, number)
            self.wait_for(lambda: not _alive(process), f"end of {path.stem}", 20)
        except ProcessLookupError:
            pass
        path.unlink(missing_ok=True)

    def stop(self) -> None:
        self.start_controller()  # which ends the jobs
        subprocess.run(["scancel", "--user=root"], env=os.environ | self.environment, capture_output=True)
        try:
            self.wait_for(lambda: not self.output("squeue", "-h"), "empty queue", 20)
        finally:
            for name in (*(f"slurmd.{node}.pid" for node in self.nodes), "slurmctld.pid", "munge/run/pid"):
                self._end(self.folder / name)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
