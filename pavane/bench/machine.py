"""What a figure was measured on. A figure without it says nothing."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("aiokafka", "confluent-kafka", "fastavro", "msgspec", "psycopg", "uvloop", "uvicorn", "fastapi")


def facts() -> dict[str, Any]:
    """Cores, processor, memory, load, system and versions, as they are now."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def sentence(found: dict[str, Any]) -> str:
    """The same in one line, for a report."""
    load = ", ".join(map(str, found["load_average"]))
    return (
        f"{found['cores']} cores of {found['cpu']}, {found['memory_gib']} GiB, {found['system']}, "
        f"Python {found['python']}, load average before the run {load}"
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
