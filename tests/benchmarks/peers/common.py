"""What both peers share: the saga's tables, and the outside world that it asks."""

import os

DATABASE = os.environ["PEER_DATABASE"]
WORLD = os.environ["PEER_WORLD"]
PRICE_MINOR = 1_999

TABLES = """
CREATE TABLE prices (sku text PRIMARY KEY, amount_minor bigint NOT NULL);
CREATE TABLE stock (
    sku text PRIMARY KEY, on_hand bigint NOT NULL, reserved bigint NOT NULL, dispatched bigint NOT NULL
);
CREATE TABLE orders (
    order_id text PRIMARY KEY, status text NOT NULL, customer text NOT NULL, amount_minor bigint NOT NULL,
    method text NOT NULL, lines jsonb NOT NULL, ship_to jsonb NOT NULL
);
CREATE TABLE reservations (order_id text PRIMARY KEY, status text NOT NULL, lines jsonb NOT NULL);
CREATE TABLE invoices (
    order_id text PRIMARY KEY, status text NOT NULL, amount_minor bigint, method text, reserved boolean NOT NULL
);
CREATE TABLE shipments (order_id text PRIMARY KEY, status text NOT NULL, ship_to jsonb, paid boolean NOT NULL);
CREATE TABLE inbox (service text, id text, PRIMARY KEY (service, id));
CREATE TABLE outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service text NOT NULL, key text NOT NULL, fact bytea NOT NULL
);
"""
#: What the provider and the carrier remember, under the key of the effect: asked again, they do nothing again.
WORLD_TABLES = "CREATE TABLE effects (key text PRIMARY KEY, status text, at timestamptz NOT NULL DEFAULT now())"
ASK = "INSERT INTO effects (key, status) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET status = excluded.status"
