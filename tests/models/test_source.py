"""What is refused before transformers opens it: pickles, pipes, endless files, and models that are not there."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_folders import Trap, assert_refused_in_one_sentence, change

from saliency_guard import LVLM, ModelError
from saliency_guard.models import source

PICKLED = ["pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth"]


def set_traps(folder: Path, mark: Path) -> None:
    for name in PICKLED:
        torch.save({"weight": Trap(mark)}, folder / name)
    for name in ("scheduler.pkl", ".metadata"):
        (folder / name).write_bytes(pickle.dumps(Trap(mark)))


def test_the_trap_works(tmp_path: Path, mark: Path) -> None:
    set_traps(tmp_path, mark)
    torch.load(tmp_path / "pytorch_model.bin", weights_only=False)
    assert mark.exists()


def test_pickles_beside_the_weights_are_not_opened(folder: Path, mark: Path) -> None:
    set_traps(folder, mark)
    assert LVLM.load(folder).model.num_parameters() > 0
    assert not mark.exists()


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickle_named_in_the_config(folder: Path) -> None:
    change(folder, "config.json", transformers_weights="adapter_model.bin")


def pickle_named_in_an_index(folder: Path) -> None:
    names = {"lm_head.weight": "pytorch_model.bin"}
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def pickle_of_an_adapter(folder: Path) -> None:
    change(folder, "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(folder))


def pickle_below_an_adapter(folder: Path) -> None:
    base = folder / "base"
    base.mkdir()
    (folder / "config.json").rename(base / "config.json")
    (folder / "pytorch_model.bin").rename(base / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    change(folder, "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(base))


PICKLES: list[Callable[[Path], None]] = [
    pickle_alone,
    pickle_named_in_the_config,
    pickle_named_in_an_index,
    pickle_of_an_adapter,
    pickle_below_an_adapter,
]


@pytest.mark.parametrize("spoil", PICKLES)
def test_weights_are_never_unpickled(folder: Path, mark: Path, spoil: Callable[[Path], None]) -> None:
    set_traps(folder, mark)
    spoil(folder)
    with pytest.raises(ModelError, match=r"nothing is unpickled here.*use_safetensors=False") as caught:
        LVLM.load(folder, weights_only=False)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_an_adapter_is_not_left_out_in_silence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers loads the model without it where peft is missing."""
    monkeypatch.setattr(source, "is_peft_available", lambda: False)
    shutil.copy(folder / "model.safetensors", folder / "adapter_model.safetensors")
    change(folder, "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(folder))
    with pytest.raises(ModelError, match="peft"):
        LVLM.load(folder)


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("model_type: llava")


def not_text(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")


def not_an_object(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")


def nested(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def huge(folder: Path) -> None:
    with (folder / "config.json").open("wb") as file:
        file.truncate(3 * 2**30)


def huge_tokenizer(folder: Path) -> None:
    with (folder / "tokenizer.json").open("wb") as file:
        file.truncate(3 * 2**30)


def pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def pipe_for_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")


def pipe_for_a_calibration(folder: Path) -> None:
    (folder / "calibrator.json").unlink()
    os.mkfifo(folder / "calibrator.json")


def endless(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to("/dev/zero")


def without_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def layers_without_end(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder, "config.json", text_config={**text, "num_hidden_layers": 10**9})


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (not_json, "config.json cannot be read as JSON"),
    (not_text, "config.json cannot be read as JSON"),
    (not_an_object, "config.json is no JSON object"),
    (nested, "config.json cannot be read as JSON"),
    (huge, "config.json is 3072 MiB large"),
    (huge_tokenizer, "tokenizer.json is 3072 MiB large"),
    (pipe, "config.json, which is no regular file"),
    (pipe_for_a_tokenizer, "tokenizer.json, which is no regular file"),
    (pipe_for_a_calibration, "calibrator.json, which is no regular file"),
    (endless, "tokenizer_config.json, which is no regular file"),
    (without_a_config, "has no config.json"),
    (without_weights, "has no weights"),
    (layers_without_end, "num_hidden_layers=1000000000, which no model has"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN, ids=[spoil.__name__ for spoil, _ in BROKEN])
def test_a_broken_folder_is_one_sentence(folder: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(folder)
    assert_refused_in_one_sentence(folder, said)


@pytest.mark.parametrize(
    "name", ["./nowhere", "../nowhere", "~/nowhere", "/no/where", "no/where/at/all", "nowhere/", "no where", Path("no")]
)
def test_a_path_that_leads_nowhere_is_called_a_folder(name: str | Path) -> None:
    with pytest.raises(ModelError, match=r"there is no such folder: .*no"):
        LVLM.load(name)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        LVLM.load(folder / "model.safetensors")


def test_home_is_where_the_shell_has_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert LVLM.load("~/model").model.num_parameters() > 0


@pytest.mark.parametrize("name", ["somebody/some-model", "nowhere"])
def test_offline_a_hub_id_fails_at_once(name: str) -> None:
    with pytest.raises(ModelError, match=f"^{name} is neither a folder nor in the local cache, and HF_HUB_OFFLINE"):
        LVLM.load(name)


HUBS = """
import http.server, os, socket, sys, threading, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))  # As long as nobody listens, it refuses.
port = listener.getsockname()[1]
os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{port}", HF_HUB_OFFLINE="0", HF_HOME=sys.argv[1])
from saliency_guard import LVLM, ModelError
from saliency_guard.models import source

def load():
    begun = time.monotonic()
    try:
        LVLM.load("somebody/some-model")
    except ModelError as error:
        print(f"{time.monotonic() - begun:.1f} {error}")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(404 if "resolve" in self.path or "api" in self.path else 200)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
    do_GET = do_HEAD
    def log_message(self, *_): pass

load()
listener.listen()  # Silent.
load()
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=False)
server.socket = listener
threading.Thread(target=server.serve_forever, daemon=True).start()
load()
"""


def test_without_the_hub_a_hub_id_fails_within_seconds(tmp_path: Path) -> None:
    """Where it refuses connections, where it is silent, and where it knows no such model."""
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", HUBS, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    refused, silent, unknown = (line.split(" ", 1) for line in done.stdout.strip().split("\n"))  # One line each.
    for seconds, message in (refused, silent, unknown):
        assert float(seconds) < 15, message
    for _, message in (refused, silent):
        assert re.search("cannot be reached: check the network .HF_HUB_OFFLINE=1", message), message
    assert "cannot read somebody/some-model from the hub" in unknown[1]
