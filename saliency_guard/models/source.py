"""Where a model is read from, looked at before transformers opens it: a folder, or a repository of the hub.

A stranger's folder may hold code, pickles, files that never end or settings that no machine can build. What is refused
here is refused before any of it is run, unpickled or waited for.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, errors, get_session, hf_hub_download, is_offline_mode
from transformers.utils.import_utils import is_peft_available

from saliency_guard.errors import ModelError

_CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
_CONFIGS = (
    _CONFIG,
    _ADAPTER,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
)
_WEIGHTS = (".safetensors", ".gguf")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_SAFE = (".safetensors", ".safetensors.index.json")
_LARGEST_CONFIG = 16 * 2**20
_LARGEST_OTHER = 512 * 2**20
_MOST_LAYERS = 1_000
_CONNECT, _WAIT = 4.0, 8.0
"""Seconds: for one address of the hub, and for all of it, names looked up included."""
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model is read from.

    Attributes:
        location: a folder, or a hub id; what transformers is to be given.
        folder: the folder; None for a hub id.
        hub: keyword arguments about the hub, for every ``from_pretrained``.
        subfolder: where in it the model is.
        cache_alone: why the hub is not asked; empty where it is.
    """

    location: str
    folder: Path | None
    hub: Mapping[str, Any]
    subfolder: str = ""
    cache_alone: str = ""

    def find(self, name: str) -> Path | None:
        """A file by name, downloaded where it has to be; None where there is none."""
        if self.folder is not None:
            path = self.folder / self.subfolder / name
            return path if path.exists() else None
        try:
            known = {key: value for key, value in self.hub.items() if key != "trust_remote_code"}
            return Path(hf_hub_download(self.location, name, subfolder=self.subfolder or None, **known))
        except (OSError, ValueError) as error:
            local = isinstance(error, errors.LocalEntryNotFoundError)  # Not there, or not reached.
            if isinstance(error, errors.EntryNotFoundError) and (self.cache_alone or not local):
                return None
            msg = f"cannot read {self.location} from the hub: {in_one_line(error)}"
            raise ModelError(msg) from error

    def settings(self, name: str) -> dict[str, Any]:
        """A JSON file's object; empty where there is no such file.

        Raises:
            ModelError: if it is larger than any such file is, or no JSON object.
        """
        path = self.find(name)
        if path is None:
            return {}
        try:
            _require_size(path, _LARGEST_CONFIG if name in _CONFIGS else _LARGEST_OTHER)
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            msg = f"{self.location}: {name} cannot be read as JSON: {in_one_line(error)}"
            raise ModelError(msg) from error
        if not isinstance(content, dict):
            msg = f"{self.location}: {name} is no JSON object"
            raise ModelError(msg)
        return content


def located(
    model: str | os.PathLike[str],
    hub: Mapping[str, Any],
    *,
    subfolder: str = "",
    holding: Sequence[str] = (_CONFIG, _ADAPTER),
) -> Source:
    """What a name stands for.

    Args:
        model: a folder, or a hub id.
        hub: keyword arguments about the hub.
        subfolder: where in it the model is.
        holding: files of which it has to hold one to be found in the cache.

    Raises:
        ModelError: if there is no such folder, or the hub cannot be reached and the model is not in the cache.
    """
    name = os.fspath(model)
    try:
        folder = Path(name).expanduser()
        kind = folder.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: nobody's home.
        if _is_path(model):
            msg = f"there is no such folder: {in_one_line(name)}"
            raise ModelError(msg) from error
        return _in_hub(name, hub, subfolder, holding)
    if not stat.S_ISDIR(kind):
        msg = f"{name} is a file: name the folder that holds the model"
        raise ModelError(msg)
    return Source(str(folder), folder, hub, subfolder)


def check(source: Source, *, weights: bool = True, pickles: bool = False) -> None:
    """Refuse what should not be opened.

    Args:
        source: where the model is read from.
        weights: whether they are going to be read.
        pickles: whether weights may be pickles: only where the caller has said so.

    Raises:
        ModelError: if files are no regular ones, unreadable or too large; if weights would be unpickled.
    """
    if source.folder is not None:
        for folder in {source.folder, source.folder / source.subfolder}:  # The processor may stand above the model.
            _check_entries(source, folder)
    configs = {name: source.settings(name) for name in _CONFIGS}
    if not configs[_CONFIG] and not configs[_ADAPTER]:
        msg = f"{source.location} has no {_CONFIG}: it holds no model"
        raise ModelError(msg)
    for path, value in _numbers(configs[_CONFIG]):
        if re.search("layers|depth", path) and value > _MOST_LAYERS:
            msg = f"{source.location}: {_CONFIG} asks for {path}={value}, which no model has"
            raise ModelError(msg)
    if weights and not pickles:
        _check_weights(source, configs[_CONFIG])
    if weights and configs[_ADAPTER]:
        _check_adapter(source, configs[_ADAPTER], whole=bool(configs[_CONFIG]), pickles=pickles)


def in_one_line(error: object) -> str:
    """What an error says, in one line that can be read at a glance."""
    words = " ".join(str(error).split()) or type(error).__name__
    plain = "".join(letter if letter.isprintable() else "?" for letter in words)
    return plain if len(plain) <= _SHOWN else plain[:_SHOWN].rsplit(" ", 1)[0] + " ..."


def _is_path(model: str | os.PathLike[str]) -> bool:
    """Whether a name that is no folder's was meant as one: no hub id looks like it."""
    return not isinstance(model, str) or not _HUB_ID.fullmatch(model)


def _in_hub(name: str, hub: Mapping[str, Any], subfolder: str, holding: Sequence[str]) -> Source:
    if is_offline_mode():
        cache_alone = "HF_HUB_OFFLINE is set: unset it to have the model downloaded"
    elif hub.get("local_files_only"):
        cache_alone = "local_files_only=True (as HF_HUB_OFFLINE=1) looks nowhere else"
    elif not _reachable():
        cache_alone = (
            f"{constants.ENDPOINT} cannot be reached: check the network (HF_HUB_OFFLINE=1 does not even ask for it)"
        )
    else:
        return Source(name, None, hub, subfolder)
    source = Source(name, None, {**hub, "local_files_only": True}, subfolder, cache_alone)
    if all(source.find(file) is None for file in holding):
        msg = f"{name} is neither a folder nor in the local cache, and {cache_alone}"
        raise ModelError(msg)
    return source


def _reachable() -> bool:
    """Whether the hub answers at all. Its client tries again for minutes, file by file: this asks once."""
    answer: Future[bool] = Future()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_CONNECT)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)
        else:
            answer.set_result(True)

    threading.Thread(target=ask, daemon=True, name="saliency-guard-hub").start()
    try:
        return answer.result(_WAIT)
    except (errors.HTTPError, OSError, NotInTimeError):  # type: ignore[attr-defined]
        return False


def _check_entries(source: Source, folder: Path) -> None:
    """No pipe, socket or device, and no text that is larger than any model's: reading one might never end."""
    try:
        entries = sorted(folder.iterdir())
        for path in entries:
            kind = path.stat().st_mode if path.exists() else stat.S_IFREG  # A link that leads nowhere is no file.
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                msg = f"{source.location} holds {path.name}, which is no regular file"
                raise ModelError(msg)
            if stat.S_ISREG(kind) and path.exists() and not path.name.endswith((*_WEIGHTS, *_PICKLES)):
                _require_size(path, _LARGEST_CONFIG if path.name in _CONFIGS else _LARGEST_OTHER)
    except OSError as error:
        msg = f"cannot read {source.location}: {in_one_line(error)}"
        raise ModelError(msg) from error


def _require_size(path: Path, largest: int) -> None:
    size = path.stat().st_size
    if size > largest:
        msg = f"{path.name} is {size / 2**20:.0f} MiB large, and no such file has more than {largest // 2**20}"
        raise ModelError(msg)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers in JSON with the name they have there."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part, name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


def _check_weights(source: Source, config: Mapping[str, Any]) -> None:
    named = config.get("transformers_weights")
    if named is not None and not str(named).endswith(_SAFE):
        raise ModelError(_pickled(source, str(named)))
    for index in _indices(source, named):
        shards = source.settings(index).get("weight_map")
        files = set(shards.values()) if isinstance(shards, dict) and _are_names(shards.values()) else {None}
        for name in files:
            if name is None or not name.endswith(".safetensors"):
                raise ModelError(_pickled(source, f"{name or 'nothing'} of {index}"))
    if source.folder is None or not config:
        return
    names = sorted(path.name for path in (source.folder / source.subfolder).iterdir())
    if any(name.endswith(_WEIGHTS) for name in names):
        return
    pickled = [name for name in names if name.endswith(_PICKLES)]
    if pickled:
        raise ModelError(_pickled(source, pickled[0]))
    msg = f"{source.location} has no weights: there is no *.safetensors in it"
    raise ModelError(msg)


def _are_names(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _indices(source: Source, named: object) -> list[str]:
    """The files that say which shard holds what, as far as there are any."""
    if source.folder is not None:
        return [path.name for path in (source.folder / source.subfolder).glob("*.safetensors.index*.json")]
    names = {"model.safetensors.index.json", *([str(named)] if str(named).endswith(_SAFE[1]) else [])}
    return [name for name in sorted(names) if source.find(name) is not None]


def _pickled(source: Source, name: str) -> str:
    return (
        f"{source.location} has weights that are no safetensors ({in_one_line(name)}), and nothing is unpickled here: "
        "have whoever made them save them with model.save_pretrained, or pass use_safetensors=False if you trust them "
        "as you trust code"
    )


def _check_adapter(source: Source, adapter: Mapping[str, Any], *, whole: bool, pickles: bool) -> None:
    """An adapter's weights are not unpickled either; without a model of its own it names another source."""
    if not pickles and source.find("adapter_model.safetensors") is None:
        raise ModelError(_pickled(source, "adapter_model.bin"))
    if not whole:
        _check_base(source, adapter, pickles=pickles)
    if not is_peft_available():
        msg = f"{source.location} holds an adapter, and peft, which reads it, is not installed: pip install peft"
        raise ModelError(msg)


def _check_base(source: Source, adapter: Mapping[str, Any], *, pickles: bool) -> None:
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str):
        msg = f"{source.location}: {_ADAPTER} names no base model"
        raise ModelError(msg)
    under = located(base, source.hub)
    if not under.settings(_CONFIG):
        msg = f"{source.location} is an adapter of {in_one_line(base)}, which holds no model"
        raise ModelError(msg)
    check(under, pickles=pickles)
