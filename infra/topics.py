"""The topics of `topics.yaml`: read, compared with a cluster, made.

`apply` makes what is missing, with as many partitions as the others have, and sets what differs, but never touches a
number of partitions: a key would change its lane. A topic with more than it shall have does no harm: services keep to
the number that their databases remember. One with fewer is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported for all but type checkers
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
    TopicMetadata,
)
from confluent_kafka.cimpl import NewTopic

from infra.errors import SettingWrong, TopicsDiffer, TopicsRefused

TOPICS_FILE = Path(__file__).with_name("topics.yaml")
PARTITIONS = "PAVANE_PARTITIONS"
KINDS = ("facts", "requests", "dead-letters")
#: A topic is kept this many times where there are brokers enough; a write then waits for two.
REPLICAS = 3
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Topic:
    """One topic as it shall be; `kind` is one of `KINDS`. Only `service` writes to it, but for requests."""

    name: str
    service: str
    kind: str
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Something of an existing topic that is not as it shall be."""

    topic: str
    #: "partitions", or the name of a setting.
    what: str
    wanted: str
    found: str


@dataclass(frozen=True)
class Plan:
    """What `apply` would do."""

    missing: list[Topic]
    #: Settings that would be changed.
    differing: list[Difference]
    #: Topics with fewer partitions than they shall have: only `pavane lanes settle` may make some.
    impossible: list[Difference]
    #: Topics with more partitions than they need.
    grown: list[Difference]


def load(file: Path = TOPICS_FILE, environment: Mapping[str, str] = os.environ) -> list[Topic]:
    """The topics in the order of the file. `SettingWrong` names what the file or `PAVANE_PARTITIONS` has wrong."""
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    partitions = _partitions(environment.get(PARTITIONS) or content["partitions"])
    topics = []
    for service, options in content["services"].items():
        wanted = {"facts": True, "requests": False, "dead-letters": True} | (options or {})
        if unknown := set(wanted) - set(KINDS):
            raise SettingWrong(f"{file}: '{service}' has {sorted(unknown)}; known are {', '.join(KINDS)}.")
        for kind in KINDS:
            if wanted[kind]:
                name = service if kind == "facts" else f"{service}.{kind}"
                settings = {key: str(value) for key, value in content["settings"][kind].items()}
                topics.append(Topic(name, service, kind, partitions, settings))
    return topics


def wanted(bootstrap: str, environment: Mapping[str, str] = os.environ) -> list[Topic]:
    """The topics as this cluster shall have them: see `as_made`. `TopicsRefused` when it does not answer."""
    with _told(bootstrap):
        present = _client(bootstrap).list_topics(timeout=TIMEOUT_SECONDS).topics
    counts = {name: len(topic.partitions) for name, topic in present.items()}
    return as_made(load(environment=environment), counts, is_named=bool(environment.get(PARTITIONS)))


def as_made(topics: list[Topic], present: Mapping[str, int], *, is_named: bool) -> list[Topic]:
    """A topic that is missing gets as many partitions as those have that are there; `present`: theirs, by name.

    `is_named`: `PAVANE_PARTITIONS` is set. `SettingWrong` when a topic is missing, and that number is not what others
    have, or nothing says which of several numbers it is.
    """
    found = {topic.name: present[topic.name] for topic in topics if topic.name in present}
    counts, number = sorted(set(found.values())), topics[0].partitions
    if not is_named and len(counts) == 1:
        return [replace(topic, partitions=counts[0]) for topic in topics]
    if not found or len(found) == len(topics) or (is_named and number in counts):
        return topics
    missing = ", ".join(topic.name for topic in topics if topic.name not in found)
    have = ", ".join(f"'{name}' {count}" for name, count in found.items())
    raise SettingWrong(
        f"{missing} would be made with {number} partitions, but of those that are there {have}. A key's lane is the "
        f"same in all: set {PARTITIONS} to the number with which they were made"
        f"{', or leave it out' if len(counts) == 1 else ''}."
    )


def plan(bootstrap: str, topics: list[Topic] | None = None) -> Plan:
    """What the cluster lacks or has otherwise. `TopicsRefused` when it does not answer."""
    topics = topics or wanted(bootstrap)
    with _told(bootstrap):
        return _plan(_client(bootstrap), topics)


def apply(bootstrap: str, topics: list[Topic] | None = None) -> Plan:
    """Make what is missing, set what differs; gives what was done.

    `TopicsDiffer`, before anything is changed, when a topic has fewer partitions than it shall have; `TopicsRefused`
    when the cluster does not answer or does not take it. May run in several processes at once: a topic that another one
    made meanwhile is as good.
    """
    client = _client(bootstrap)
    topics = topics or wanted(bootstrap)
    todo = plan(bootstrap, topics)
    if todo.impossible:
        others = len(topics) > len(todo.missing) + len(todo.impossible)
        raise TopicsDiffer(_too_few_partitions(todo.impossible, others_have_enough=others))
    with _told(bootstrap):
        if todo.missing:
            _create(client, todo.missing)
        if todo.differing:
            for changed in client.incremental_alter_configs(_alterations(todo.differing)).values():
                changed.result(TIMEOUT_SECONDS)
    return todo


def _create(client: AdminClient, missing: list[Topic]) -> None:
    replicas = _replicas(client)
    new = [NewTopic(each.name, each.partitions, replicas, config=dict(each.settings)) for each in missing]
    for created in client.create_topics(new, operation_timeout=TIMEOUT_SECONDS).values():
        try:
            created.result(TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise


def _plan(client: AdminClient, topics: list[Topic]) -> Plan:
    replicas = _replicas(client)
    present = client.list_topics(timeout=TIMEOUT_SECONDS).topics
    missing = [_safe(topic, replicas) for topic in topics if topic.name not in present]
    # By how many copies it was made with, not by the brokers of the moment: one that is away must not make a write wait
    # for fewer.
    existing = [_safe(topic, _copies(present[topic.name])) for topic in topics if topic.name in present]
    counts = [len(present[topic.name].partitions) for topic in existing]
    others = [
        Difference(topic.name, "partitions", str(topic.partitions), str(count))
        for topic, count in zip(existing, counts, strict=True)
        if count != topic.partitions
    ]
    grown = [each for each in others if int(each.found) > int(each.wanted)]
    return Plan(missing, _differing(client, existing), [each for each in others if each not in grown], grown)


def _differing(client: AdminClient, topics: list[Topic]) -> list[Difference]:
    resources = {topic.name: ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics}
    described = client.describe_configs(list(resources.values())) if resources else {}
    found = {resource.name: future.result(TIMEOUT_SECONDS) for resource, future in described.items()}
    return [
        Difference(topic.name, key, wanted, str(found[topic.name][key].value))
        for topic in topics
        for key, wanted in topic.settings.items()
        if found[topic.name][key].value != wanted
    ]


def _alterations(differences: list[Difference]) -> list[ConfigResource]:
    by_topic: dict[str, list[ConfigEntry]] = {}
    for each in differences:
        entry = ConfigEntry(
            each.what,
            each.wanted,
            incremental_operation=AlterConfigOpType.SET,
        )
        by_topic.setdefault(each.topic, []).append(entry)
    return [ConfigResource(ResourceType.TOPIC, name, incremental_configs=by) for name, by in by_topic.items()]


def _safe(topic: Topic, replicas: int) -> Topic:
    """With the number of copies a write waits for."""
    in_sync = "2" if replicas >= REPLICAS else "1"
    return Topic(
        topic.name, topic.service, topic.kind, topic.partitions, {**topic.settings, "min.insync.replicas": in_sync}
    )


def _copies(topic: TopicMetadata) -> int:
    return min(len(partition.replicas) for partition in topic.partitions.values())


def _replicas(client: AdminClient) -> int:
    return min(REPLICAS, len(client.list_topics(timeout=TIMEOUT_SECONDS).brokers))


@contextmanager
def _told(bootstrap: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise TopicsRefused(bootstrap, error.args[0].str()) from None
    except TimeoutError:
        raise TopicsRefused(bootstrap, f"no answer within {TIMEOUT_SECONDS:.0f} seconds") from None


def _client(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def _partitions(value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if not 1 <= number <= 1000:
        raise SettingWrong(f"{PARTITIONS} (or `partitions` in topics.yaml) is {value!r}; it must be from 1 to 1000.")
    return number


def _too_few_partitions(differences: list[Difference], *, others_have_enough: bool) -> str:
    found = ", ".join(f"'{each.topic}' has {each.found} partitions" for each in differences)
    wanted = f"but {differences[0].wanted} are wanted. A key's lane is its partition, so no topic grows in place"
    if others_have_enough:
        return (
            f"{found}, {wanted}: others have as many, so it was made anew with fewer. 'pavane lanes settle "
            "--reason ...' makes what it lacks again, and says what is gone."
        )
    return (
        f"{found}, {wanted}: set {PARTITIONS} (or `partitions` in topics.yaml) back to {differences[0].found}, or use "
        "a cluster whose topics are not made yet."
    )
