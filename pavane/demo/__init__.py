"""The demonstration: the orders of a real shop, driven through the whole platform and counted at the end."""
