#!/bin/sh
# What compose.yaml asks for, made anew: a password each for PostgreSQL's roles and for Valkey, and a master key.
set -eu
for name in ADMIN ORDERS INVENTORY BILLING SHIPPING TIMELINE KEYS WORLD REGISTRY VALKEY; do
    echo "PAVANE_${name}_PASSWORD=$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')"
done
echo "PAVANE_MASTER_KEYS=$(date +%Y):$(head -c 32 /dev/urandom | base64)"
