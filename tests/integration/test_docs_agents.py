"""Every block of the pages about agents is run, in the order of the page, in a folder with the shipped topology alone.

What stands for something else: a free port for the page's own, and a package of our own for an SDK that would have to
be fetched, and that would want a key and a network.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from console.local.ports import free_ports
from tests.support.waiting import deadline_in
from tests.unit.test_docs import FENCE, ROOT, page

pytestmark = pytest.mark.timeout(240)

PAGES = ("function", "llm", "service", "nodejs")
FILE = re.compile(r"^(?:#|//) (\S+\.\w+)$")
PORT = "8700"
INSTALL = "desk/.venv/bin/pip install openai-agents"
# What installs nothing needs no pip, which takes seconds to put there.
MAKE, MAKE_WITHOUT_PIP = "python3 -m venv desk/.venv", "python3 -m venv --without-pip desk/.venv"
BLOCK_S = 120.0
READY_S = 30.0

# What the SDK's page needs of it, under its names.
SDK = """
class Agent:
    def __init__(self, name, instructions, output_type):
        self.output_type = output_type


class Runner:
    @staticmethod
    def run_sync(agent, text):
        import os, types

        assert os.environ["OPENAI_API_KEY"] == "a key", "the variable did not come"
        usage = types.SimpleNamespace(input_tokens=21, output_tokens=7)
        wrapper = types.SimpleNamespace(usage=usage)
        return types.SimpleNamespace(final_output=agent.output_type(f"asked: {text}", 0.8), context_wrapper=wrapper)
"""


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, ""
        self._port = str(free_ports(1)[0])
        self._started: list[subprocess.Popen[bytes]] = []
        bin_folder = str(Path(sys.executable).parent)
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")},
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "YOUR_KEY": "a key",
        }
        shutil.copy(ROOT / "topology.yaml", folder)

    def do(self, language: str, text: str) -> None:
        first, text = text.split("\n", 1)[0], text.replace(PORT, self._port)
        if named := FILE.match(first):
            path = self.folder / named[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif language == "yaml":
            self._merge(text)
        elif language == "sh":
            self.said = self._run(text)
        elif language == "text":
            self._compare(text)
        else:
            raise AssertionError(f"nobody knows what to do with a block of {language}: {first}")

    def _merge(self, text: str) -> None:
        """Adds entries to the sections of the topology."""
        yaml, path = YAML(typ="safe", pure=True), self.folder / "topology.yaml"
        document: dict[str, Any] = yaml.load(path.read_text("utf-8"))
        for section, entries in yaml.load(text).items():
            document[section] |= entries
        written = io.StringIO()
        yaml.dump(document, written)
        path.write_text(written.getvalue())
        # The service scaffold's own address is in the file already.
        path.write_text(path.read_text().replace(PORT, self._port))

    def _run(self, script: str) -> str:
        script = script.replace("\\\n", " ").replace(MAKE, MAKE_WITHOUT_PIP)
        exports = [line for line in script.splitlines() if line.startswith("export ")]
        said = ""
        for line in script.splitlines():
            if line == INSTALL:
                self._install_sdk()
            elif line.endswith(" &"):
                self._start(line.removesuffix(" &"))
            elif line not in exports:
                done = subprocess.run(
                    ["bash", "-euc", "\n".join([*exports, line])],
                    cwd=self.folder,
                    env=self._env,
                    capture_output=True,
                    text=True,
                    timeout=BLOCK_S,
                    check=False,
                )
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                said += done.stdout
                self._use_free_port()
        return said

    def _use_free_port(self) -> None:
        path = self.folder / "topology.yaml"
        path.write_text(path.read_text().replace(f":{PORT}/", f":{self._port}/"))

    def _install_sdk(self) -> None:
        (site,) = (self.folder / "desk" / ".venv" / "lib").glob("python*/site-packages")
        (site / "agents").mkdir()
        (site / "agents" / "__init__.py").write_text(SDK)

    def _start(self, line: str) -> None:
        self._started.append(subprocess.Popen(shlex.split(line), cwd=self.folder, env=self._env))
        deadline = deadline_in(READY_S)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/", timeout=5).close()
            except urllib.error.HTTPError:
                return  # it answers
            except OSError:
                assert time.monotonic() < deadline, f"{line} does not serve"
                time.sleep(0.1)

    def _compare(self, expected: str) -> None:
        said = [line.split() for line in self.said.splitlines()]
        missing = [line for line in expected.splitlines() if line.split() not in said]
        assert missing == [], self.said

    def leave(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    found = Reader(tmp_path)
    yield found
    found.leave()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_says(name: str, reader: Reader) -> None:
    blocks = FENCE.findall(page(f"docs/agents/{name}.md"))
    assert len(blocks) >= 5
    for language, text in blocks:
        reader.do(language, text)


def test_every_page_about_agents_is_run() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "agents").glob("*.md")}
    assert pages == {*PAGES, "protocol"}  # that one has tests of its own


def test_the_sdk_in_our_environment_would_be_hidden_by_ours(tmp_path: Path) -> None:
    """The clash that the page speaks of: beside pointsman, `agents` is pointsman's, whatever else is installed."""
    script = "import agents; print(agents.__file__); from agents import Runner"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert str(ROOT / "agents") in done.stdout
    assert "cannot import name 'Runner'" in done.stderr
