"""The operators' desk: `pavane dead-letters` over HTTP, behind the gateway.

It has the services' databases, which the gateway has not. Only gateways should reach it; it believes the operator's
token and nobody else, shows an operator what is of their tenant, and keeps in `operations` who asked for what.
"""
