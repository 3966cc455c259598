"""The Python API, and docs/notebook.ipynb, whose cells are executed as a notebook would."""

import ast
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_runs import Exact

import vaexp
from vaexp.errors import UserError
from vaexp.runs.folder import RunFolder

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def shown(value: Any) -> str:
    """What a notebook shows of the value of a cell's last line."""
    html = getattr(value, "_repr_html_", None)
    return str(html()) if html else repr(value)


def executed(cell: str, names: dict[str, Any]) -> str:
    """Run a cell; what it shows of its last line, or nothing."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return ""
    assert isinstance(last, ast.Expr)
    return shown(eval(compile(ast.Expression(last.value), "cell", "eval"), names))


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in notebook["cells"]), "kept without outputs"
    names: dict[str, Any] = {}
    answers = {cell.splitlines()[-1]: executed(cell, names) for cell in cells}
    assert "method: closed_form" in answers["config"]
    assert answers["mixture.model.covariance, mixture.train.max_iter"] == "('diag', 5)"
    assert "did you mean latent_dim?" in capsys.readouterr().out
    assert "log_prob" in answers["run.metrics"]
    assert answers['run.figures["principal_axes"]'].startswith("<img alt=")
    assert "data:image/png;base64," in answers['run.figures["principal_axes"]']
    assert answers["z.shape, x.shape"] == "(torch.Size([5, 2]), torch.Size([5, 784]))"
    assert answers['vaexp.load_run("latest").config.model.kind'] == "'gmm'"
    assert "test.log_prob" in answers["runs.table"]
    assert len(list((elsewhere / "runs").iterdir())) == 2


def test_importing_it_is_quick_and_loads_nothing(tmp_path: Path) -> None:
    script = """
import sys
before = set(sys.modules)
import vaexp
new = set(sys.modules) - before
assert new <= {"vaexp", "pkgutil", "typing"} | {m for m in new if not m.startswith("vaexp")}, new
assert not {"torch", "numpy", "pydantic", "pandas", "typer"} & set(sys.modules)
assert vaexp.__all__ == ["Config", "load_run", "load_runs", "train"]
vaexp.Config("quickstart", "model.beta=4")
vaexp.load_runs(".")
assert not {"torch", "matplotlib", "typer"} & set(sys.modules)
"""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    assert time.perf_counter() - began < 10
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        vaexp.__getattr__("trian")


def test_a_config_is_read_from_whatever_describes_one(write: Any, fixed: Path) -> None:
    path = write("model: {kind: vae, beta: 2}\nname: experiment\n")
    mapping = {"name": "experiment", "model": {"kind": "vae", "beta": 2}}
    configs = [vaexp.Config(path), vaexp.Config(str(path)), vaexp.Config(mapping)]
    configs += [
        vaexp.Config(configs[0]),
        vaexp.Config(vaexp.Config(path, "model.beta=3"), "model.beta=2"),
    ]
    assert all(config == configs[0] for config in configs)
    assert len({*configs}) == 1
    assert vaexp.Config(repr_of(configs[0], write)) == configs[0]
    assert vaexp.Config(fixed).model.sigma_mode == "fixed"
    assert configs[0] != vaexp.Config(path, "model.beta=4")
    with pytest.raises(
        UserError, match=r"<config>:\d+:\d+: model.bta: unknown key; did you mean beta"
    ):
        vaexp.Config({"model": {"kind": "vae", "bta": 1}})
    with pytest.raises(UserError, match="cannot be written as YAML"):
        vaexp.Config({"model": {"kind": "vae", "beta": np.float64}})
    with pytest.raises(AttributeError, match="modle"):
        _ = vaexp.Config(path).modle


def test_a_mapping_may_hold_numbers_of_numpy_and_torch_and_paths(tmp_path: Path) -> None:
    model = {"kind": np.str_("vae"), "beta": np.float64(2), "latent_dim": np.int32(3)}
    model |= {
        "conditional": np.bool_(False),
        "hidden": np.array([8, 4]),
        "sigma": torch.tensor(0.5),
    }
    found = vaexp.Config({"model": model, "data": {"root": tmp_path, "labels": (np.uint8(4), 9)}})
    plain = {"kind": "vae", "beta": 2, "latent_dim": 3, "conditional": False, "hidden": [8, 4]}
    plain |= {"sigma": 0.5}
    assert found == vaexp.Config(
        {"model": plain, "data": {"root": str(tmp_path), "labels": [4, 9]}}
    )
    endless: dict[str, Any] = {"kind": "vae"}
    endless["beta"] = endless
    with pytest.raises(UserError, match="cannot be written as YAML"):
        vaexp.Config({"model": endless})


def test_the_config_of_a_run_is_read_once(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, read, times = vaexp.load_run(forge("a", "model.beta=2")), RunFolder.config, []

    def counted(folder: RunFolder) -> Any:
        times.append(1)
        return read(folder)

    monkeypatch.setattr(RunFolder, "config", counted)
    assert (run.config.name, run.config.model.beta, run.config.model.kind) == ("a", 2, "vae")
    assert len(times) == 1


def repr_of(config: Any, write: Any) -> Path:
    return write(repr(config))


def test_a_run_is_what_its_folder_holds(exact: Exact) -> None:
    trained = exact("full")
    run = vaexp.load_run(trained.path)
    assert run.status == "finished"
    assert run.config.model.components == 3
    assert len(run.history) == len(trained.run.records())
    table = run.metrics
    row = table[(table.split == "test") & (table.metric == "log_prob")].iloc[0]
    assert row.value == trained.run.metrics()["test"]["log_prob"]["value"]
    assert list(run.history["train.log_prob"]) == [
        record["train"]["log_prob"] for record in trained.run.records()
    ]
    assert set(run.figures) == {path.stem for path in trained.path.glob("figures/*.png")}
    assert shown(run.figures).count("<img") == len(run.figures)
    assert set(run.per_example) == set(trained.run.per_example())
    x, _ = trained.images()
    np.testing.assert_allclose(run.model.log_prob(x[:9]), trained.log_prob(x[:9]), rtol=1e-6)


def test_without_pandas_tables_are_lists(exact: Exact, monkeypatch: pytest.MonkeyPatch) -> None:
    run = vaexp.load_run(exact("closed").path)
    frame = run.metrics
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = run.metrics
    assert [row["metric"] for row in rows] == list(frame.metric)
    assert vaexp.load_runs(run.path.parent).table[0]["model.kind"] == "ppca"


def test_a_damaged_figure_is_named_and_not_shown(exact: Exact, copy_of: Any) -> None:
    path = copy_of(exact("closed").path)
    (path / "figures" / "samples.png").write_text("<script>alert(1)</script>")
    html = shown(vaexp.load_run(path).figures["samples"])
    assert html == f"<p>{path}/figures/samples.png is damaged</p>"


def test_runs_of_a_folder(forge: Any) -> None:
    paths = [forge("a"), forge("b", "model.beta=2")]
    runs = vaexp.load_runs(forge.folder)
    assert sorted(run.path for run in runs) == sorted(paths)
    assert isinstance(runs[:1], type(runs))
    assert sorted(runs.table["model.beta"]) == [1.0, 2.0]
    assert runs.table["test.elbo"].tolist() == [
        RunFolder(run.path).metrics()["test"]["elbo"]["value"] for run in runs
    ]
    with pytest.raises(UserError, match="no such folder"):
        vaexp.load_runs(forge.folder / "nope")


def test_a_damaged_run_is_left_out_of_the_table_and_named(forge: Any) -> None:
    good, bad = forge("good"), forge("bad")
    (bad / "config.yaml").write_text("model: {kind: vae, beta: -1}")
    runs = vaexp.load_runs(forge.folder)
    with pytest.warns(UserWarning, match=f"left out: {bad}/config.yaml"):
        table = runs.table
    assert table["run"].tolist() == [good.name]
    assert f"Run({str(bad)!r}, damaged)" in repr(runs)
