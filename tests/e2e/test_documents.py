"""What `docs/coming-from-openai.md` has people run does what it says, against a server of this machine in both parts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from served import environment, running

import fettle
from tiny_models import save_tiny_model

pytestmark = pytest.mark.long
DOCUMENT = Path(fettle.__file__).parents[2] / "docs" / "coming-from-openai.md"
ALIAS = "gpt-4o-mini-2024-07-18"


def block_with(text: str) -> str:
    """The one block of Python in the document that has a text in it."""
    [block] = [found for found in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if text in found]
    return block


def test_a_script_with_an_old_name_runs_and_what_it_left_is_exported(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}]}
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(12)))
    model = save_tiny_model(tmp_path / "models" / "tiny", "qwen2")
    with running(tmp_path / "home", model) as server:
        aliased = [sys.executable, "-m", "fettle", "models", "alias", ALIAS, "tiny"]
        subprocess.run(aliased, env=environment(server.home), check=True, capture_output=True)

        def run(script: str) -> str:
            account = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": server.key}
            done = subprocess.run(
                [sys.executable, "-c", script], env=os.environ | account, cwd=tmp_path,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        printed = run(block_with("purpose="))
        assert printed.startswith("succeeded None ft:tiny:fettle:tickets:")
        assert "The job has successfully completed" in printed
        assert run(block_with("openai-export")) == ""
    exported = tmp_path / "openai-export"
    [job] = [json.loads(path.read_text()) for path in exported.glob("ftjob-*.json") if ".events" not in path.name]
    assert (exported / f"{job['training_file']}.jsonl").read_bytes() == (tmp_path / "train.jsonl").read_bytes()
    assert (exported / f"{job['result_files'][0]}.jsonl").read_text().startswith("step,train_loss")
    events = json.loads((exported / f"{job['id']}.events.json").read_text())
    assert events[-1]["message"] == f"Created fine-tuning job: {job['id']}"
