"""What ailed a Kafka node that did not start, or did not stay: a sentence for a person out of its last words.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# By what the JVM or Kafka say; the first that is found counts, so what has a cause stands below its cause.
FAULTS: Mapping[str, str] = {
    r"No space left on device": "The disk is full: free some space and start again; what was accepted is kept.",
    r"Read-only file system|AccessDeniedException|Permission denied": (
        "It may not write to its data directory: make it writable, or choose another with --data DIR."
    ),
    r"Address already in use|BindException": (
        "Somebody took its port a moment ago: start again, or name another with --kafka-port PORT."
    ),
    r"Failed to acquire lock on file": "Another broker still uses its data directory: stop that one.",
    r"Invalid cluster\.id|No `?meta\.properties`? found|meta\.properties.*(?:inconsistent|invalid|not found)"
    r"|Inconsistent cluster|No readable meta\.properties": (
        "Its data directory is another cluster's or is damaged: choose another with --data DIR, or remove this one."
    ),
    r"Unsupported (?:feature|metadata)|[Uu]nknown metadata\.version|UnsupportedVersionException"
    r"|No MetadataVersion with|does not support (?:feature|metadata)": (
        "Its data directory was written by another version of Kafka: use that one, or choose another with --data DIR."
    ),
    r"OutOfMemoryError|Could not reserve enough space|Cannot allocate memory|insufficient memory": (
        "There is not enough memory for it: close other programs, or use a Kafka elsewhere with --broker HOST:PORT."
    ),
    r"Too many open files": "It may not open enough files: raise the limit (`ulimit -n 65536`) and start again.",
    r"UnsupportedClassVersionError": "This Java is too old for it: Java 17 or later is needed.",
}
_FRAME = re.compile(r"^\s+(?:at |\.\.\. \d+ more)")


def fault_in(words: str) -> str | None:
    """What is to be done, where the words are of a fault that is known."""
    for pattern, sentence in FAULTS.items():
        if re.search(pattern, words):
            return sentence
    return None


def without_frames(words: str) -> str:
    """The lines that are not of a Java stack trace."""
    return "\n".join(line for line in words.splitlines() if not _FRAME.match(line))
