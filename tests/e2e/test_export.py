"""What a study tuned, exported by the command in each format."""

from __future__ import annotations

import signal
from pathlib import Path

from command import Runner
from studies import Study, require_refused

from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model


def test_the_tuned_model_of_a_study_in_each_format(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    for options, out in (
        (("--format", "adapter"), "adapter"),
        (("--format", "merged"), "merged"),
        (("--format", "gguf", "--type", "f16"), "tuned.gguf"),
        (("--format", "gguf"), "small.gguf"),
    ):
        finished = fettle("export", label_study.folder, *options, "--out", tmp_path / out)
        assert finished.code == 0, finished.everything
        assert f"Written: {tmp_path / out}" in finished.everything
        assert "Warning" not in finished.error
    assert sorted(path.name for path in tmp_path.glob("*") if "log" not in path.name) == [
        "adapter", "merged", "small.gguf", "tuned.gguf"
    ]  # fmt: skip
    assert load_model(resolve_model(str(tmp_path / "merged")), Precision.EXACT).renderer.tokenizer.chat_template
    trained = label_study.folder / "training" / "adapter" / "adapter_model.safetensors"
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == trained.read_bytes()
    served = fettle("study", "labels.csv", "--model", tmp_path / "merged", "--dry-run", "--out", tmp_path / "again")
    assert served.code == 0, served.everything


def test_mistakes_are_told_in_words(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    require_refused(fettle("export", tmp_path / "missing", "--out", out), "there is no such folder")
    require_refused(fettle("export", label_study.folder, "--format", "gguf", "--type", "q9", "--out", out), "q8_0")
    require_refused(
        fettle("export", label_study.folder, "--type", "q8_0", "--out", out), "choose one of f32, f16, bf16"
    )
    require_refused(fettle("export", label_study.folder, "--out", fettle.folder / "model"), "it is left as it is")
    require_refused(fettle("export", label_study.folder, "--out", fettle.folder / "labels.csv" / "x"), "--out")
    assert not out.exists()


def test_killed_while_it_writes(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out" / "tuned.gguf"
    partial = out.parent / ".tuned.gguf.partial"
    words = ("export", label_study.folder, "--format", "gguf", "--out", out)
    command = fettle.start(*words)
    assert command.wait_until(partial.is_dir)
    command.kill()
    assert command.process.exitcode == -signal.SIGKILL
    assert not out.exists()
    assert fettle(*words).code == 0
    assert [path.name for path in out.parent.iterdir()] == ["tuned.gguf"]
