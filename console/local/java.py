"""What a Kafka node of our own needs of the machine: Java, and Apache Kafka's jars.

I/O: a process, files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
JARS = REPOSITORY / "ops" / "broker" / "lib"
CLASSES = JARS / "classes.jsa"
ARCHIVED = JARS / ".archived"
JAVA_VERSION_MIN = 17
JAVA_ANSWER_S = 30.0


def java_version() -> int:
    """Of the `java` on the path; 0 when there is none that runs."""
    if shutil.which("java") is None:
        return 0
    command = ["java", "-version"]  # the one on the path is meant
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=JAVA_ANSWER_S).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found.group(1)) if found else 0


def class_archive() -> Path | None:
    """What `make setup` made of the classes in these jars; of a folder that was copied, the JVM takes none."""
    made_for = ARCHIVED.read_text("utf-8") if ARCHIVED.exists() else ""
    return CLASSES if made_for == str(JARS) and CLASSES.exists() else None


def missing_tools() -> list[str]:
    """What has to be installed before a broker can start here, each with its remedy; empty when all is there."""
    missing = []
    if java_version() < JAVA_VERSION_MIN:
        missing.append(f"Java {JAVA_VERSION_MIN} or later (for example: apt-get install openjdk-17-jre-headless)")
    if not any(JARS.glob("kafka_*.jar")):
        missing.append("Apache Kafka's jars (run `make setup`; it needs Maven, for example: apt-get install maven)")
    return missing
