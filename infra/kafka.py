"""Apache Kafka in KRaft mode: one process that is broker and controller, or three.

Ports may differ from start to start. KRaft reads `controller.quorum.voters` from the configuration at each start (a
static quorum), and a broker registers its listeners anew, so nothing in the data folder remembers a port.
"""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from infra.cache import cache_folder, fresh_folder
from infra.errors import DataFolderForeign, ExitedEarly
from infra.jars import kafka_class_path, locked
from infra.java import java_command
from infra.processes import Child
from infra.server import HOST, Server, lean_environment, write_news

LOG4J = Path(__file__).with_name("log4j2.xml")
HEAP_MEGABYTES = 400


def kafka_nodes(data: Path, brokers: int, record: Path | None = None) -> list[Kafka]:
    """The nodes of the cluster in a data folder, in order of their ids, each in a folder of its own.

    `DataFolderForeign` when the folder was made with another number of brokers.
    """
    found = len(list(data.glob("kafka-*/log")))
    if found not in (0, brokers):
        raise DataFolderForeign(data, f"a Kafka of {found} brokers", f"one of {brokers}")
    kept = data / "kafka-cluster-id"
    if not kept.exists():
        kept.write_text(_random_id())
    nodes: list[Kafka] = []
    nodes += [
        Kafka(data / f"kafka-{number + 1}", number + 1, nodes, kept.read_text(), record) for number in range(brokers)
    ]
    return nodes


class Kafka(Server):
    """One node. `peers` are all nodes of the cluster, this one among them."""

    name = "Apache Kafka"
    ports_needed = 2

    def __init__(self, folder: Path, node_id: int, peers: list[Kafka], cluster_id: str, record: Path | None) -> None:
        super().__init__(folder)
        self.node_id = node_id
        self.peers = peers
        self.version = locked("kafka")[0].version
        if node_id > 1:
            # The last ones to go have lost their quorum, and would wait for it in vain.
            self.stops_within_seconds = 6.0
        self._cluster_id = cluster_id
        self._record = record

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def prepare(self) -> None:
        log_folder = self.folder / "log"
        if not log_folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _format(log_folder, self.node_id, self._cluster_id)
        properties = _properties(self)
        write_news(self.folder / "server.properties", "".join(f"{key}={value}\n" for key, value in properties.items()))

    def launch(self) -> Child:
        return Child(
            self.folder.name,
            [
                *java_command("kafka", HEAP_MEGABYTES, self._record),
                f"-Dlog4j2.configurationFile={LOG4J}",
                *("-cp", _class_path(), "kafka.Kafka", "server.properties"),
            ],
            lean_environment(),
            self.log_file,
            cwd=self.folder,
        )

    def ask(self) -> str | None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            client = AdminClient({"bootstrap.servers": self.address, "log_level": 0, "socket.timeout.ms": 3000})
            known = set(client.list_topics(timeout=3).brokers)
        except KafkaException as error:
            return str(error.args[0].str())
        missing = {peer.node_id for peer in self.peers} - known
        return f"brokers {sorted(missing)} are missing" if missing else None


def _properties(node: Kafka) -> dict[str, object]:
    broker, controller = node.ports
    several = len(node.peers) > 1
    return {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": ",".join(f"{peer.node_id}@{HOST}:{peer.ports[1]}" for peer in node.peers),
        "listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # Relative, as the process runs in its folder: a path may hold a comma, or letters that Kafka reads as Latin-1.
        "log.dirs": "log",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        # A killed broker may register again only when its old session is over.
        "broker.session.timeout.ms": 5000 if several else 3000,
        "broker.heartbeat.interval.ms": 1000 if several else 500,
        # A lane's owner must be able to come back after weeks; topics set their own retention.
        "offsets.retention.minutes": 5_256_000,
        "log.retention.ms": -1,
        "default.replication.factor": 3 if several else 1,
        "min.insync.replicas": 2 if several else 1,
        "offsets.topic.replication.factor": 3 if several else 1,
        "transaction.state.log.replication.factor": 3 if several else 1,
        "transaction.state.log.min.isr": 2 if several else 1,
        "share.coordinator.state.topic.replication.factor": 3 if several else 1,
        "share.coordinator.state.topic.min.isr": 2 if several else 1,
        # Some dozen clients: few partitions for offsets and transactions save files and start time.
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.num.partitions": 4,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.replica.fetchers": 1,
        "background.threads": 2,
        "log.cleaner.threads": 1,
        "num.recovery.threads.per.data.dir": 2,
    }


def _class_path() -> str:
    return ":".join(map(str, kafka_class_path()))


def _format(log_folder: Path, node_id: int, cluster_id: str) -> None:
    """What `kafka-storage format` does, from a template: its Java would take longer than all the rest."""
    with fresh_folder(log_folder) as fresh:
        shutil.copyfile(_template() / "bootstrap.checkpoint", fresh / "bootstrap.checkpoint")
        lines = {"version": 1, "cluster.id": cluster_id, "node.id": node_id, "directory.id": _random_id()}
        (fresh / "meta.properties").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))


def _template() -> Path:
    """A log folder formatted once by Kafka's own tool; its `bootstrap.checkpoint` names this version's features."""
    version = locked("kafka")[0].version
    template = cache_folder() / f"kafka-{version}-formatted"
    if not template.exists():
        with fresh_folder(template) as fresh:
            # Relative, as in `_properties`.
            (fresh / "server.properties").write_text(
                "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n"
                f"controller.quorum.voters=1@{HOST}:1\nlisteners=PLAINTEXT://{HOST}:2,CONTROLLER://{HOST}:1\n"
                "log.dirs=.\n"
            )
            _run_storage_tool(["format", "-t", _random_id(), "-c", "server.properties"], fresh)
    return template


def _run_storage_tool(words: Sequence[str], folder: Path) -> None:
    log_file = folder / "format.log"
    command = [*java_command("kafka", HEAP_MEGABYTES), f"-Dlog4j2.configurationFile={LOG4J}"]
    child = Child(
        "kafka-storage",
        [*command, "-cp", _class_path(), "kafka.tools.StorageTool", *words],
        lean_environment(),
        log_file,
        cwd=folder,
    )
    code = child.wait_here()
    if code != 0:
        raise ExitedEarly("kafka-storage format", code, log_file, child.log_tail())


def _random_id() -> str:
    """Kafka's own form of a UUID; one that starts with a dash would be taken for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
