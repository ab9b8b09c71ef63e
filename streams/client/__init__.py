"""The Python client of a deployment: tasks in, results out, in a few lines.

    with Client("127.0.0.1:9092") as client:
        results = client.results()
        task_id = client.submit("find the Q3 revenue for EMEA", tenant="acme", labels={"team": "ops"})
        for result in results: ...

Needs neither Faust, ClickHouse nor the topology file. What it guarantees: docs/client.md. I/O: Kafka.
"""

from schemas.errors import InvalidTasksError, TaskFault
from streams.client.client import Client, Prepared
from streams.client.results import Result, Results, Vote
from streams.client.submissions import Submission

__all__ = ["Client", "InvalidTasksError", "Prepared", "Result", "Results", "Submission", "TaskFault", "Vote"]
