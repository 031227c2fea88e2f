from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import tiny
import torch
from hypothesis import settings
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from saliency_guard import LVLM
from saliency_guard.scenes.scene import render, sample_scene

# Many threads only wait for each other on models this small.
torch.set_num_threads(1)
disable_progress_bar()
# A time limit per example says how busy the machine is, nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


_GROUP = re.compile(r'xdist_group\("([^"]+)"\)')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a file marked `xdist_group` go to one process: xdist 3.8 cannot tell by the node ids of pytest 9.2."""
    from xdist.scheduler import LoadGroupScheduling

    if config.getvalue("dist") != "loadgroup":
        return None
    groups = {
        str(path.relative_to(config.rootpath)): marked[1]
        for folder in ("tests", "integrations")
        for path in (config.rootpath / folder).rglob("test_*.py")
        if (marked := _GROUP.search(path.read_text(encoding="utf-8"))) is not None
    }

    class Scheduling(LoadGroupScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            return groups.get(nodeid.partition("::")[0], scope)

    return Scheduling(config, log)


@pytest.fixture(params=list(tiny.BUILDERS))
def case(request: pytest.FixtureRequest) -> tiny.Case:
    return tiny.build(request.param)


@pytest.fixture
def llava() -> tiny.Case:
    return tiny.build("llava-gqa")


@pytest.fixture(scope="session")
def lvlm() -> LVLM:
    return LVLM.load()


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    return render(sample_scene(2523), 224).image


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A real Ray cluster on this machine; tests with it are of one xdist group, so that there is only one."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_AUTH_MODE", "disabled")
        patched.setenv("RAY_worker_niceness", "0")  # By default workers get what nobody else wants of a busy machine.
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=200_000_000,
            _node_ip_address="127.0.0.1",
            _system_config={"prestart_worker_first_driver": False, "enable_worker_prestart": False},
        )
        yield ray
        ray.shutdown()
