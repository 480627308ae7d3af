"""Who holds which lanes: the members of each service's group, as Kafka has shared the partitions out among them."""

from collections.abc import Collection, Mapping, Set
from typing import TypeAlias

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

ASK_SECONDS = 5.0
SHARING_OUT = (ConsumerGroupState.PREPARING_REBALANCING, ConsumerGroupState.COMPLETING_REBALANCING)

#: The lanes that some process of a service holds. Of a service that is not there nobody can tell; of none: None.
Held: TypeAlias = Mapping[str, Set[int]]


def held(bootstrap: str, services: Collection[str]) -> Held | None:
    """Ask Kafka. None when it does not answer; a service whose lanes are just being shared out is left out."""
    if not services:
        return {}
    try:
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        asked = admin.describe_consumer_groups(list(services), request_timeout=ASK_SECONDS)
        described = {name: future.result(ASK_SECONDS) for name, future in asked.items()}
    except (KafkaException, TimeoutError):
        return None
    return {
        name: {at.partition for member in group.members for at in member.assignment.topic_partitions}
        for name, group in described.items()
        if group.state not in SHARING_OUT
    }
