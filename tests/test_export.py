"""``vaexp export`` through the command line, read back by the tools it is for."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from exact_runs import Exact

from vaexp.config import flatten
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import HEARTBEAT


@pytest.fixture
def two(exact: Exact, learned: Path) -> list[RunFolder]:
    return [exact("full").run, RunFolder(learned)]


def expected_history(run: RunFolder) -> list[float]:
    return [
        record["train"]["elbo" if "epoch" in record else "log_prob"] for record in run.records()
    ]


@pytest.mark.usefixtures("elsewhere")
def test_csv(invoke: Any, two: list[RunFolder]) -> None:
    done = invoke("export", "csv", *[run.path for run in two], "--json")
    assert done.exit_code == 0, done.stderr
    written = [Path(path) for path in json.loads(done.stdout)["written"]]
    assert written == [Path("export") / f"{name}.csv" for name in ("runs", "metrics", "history")]
    tables = {}
    for path in written:
        with path.open(newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    for run in two:
        [row] = [row for row in tables["runs"] if row["run"] == run.name]
        assert row["folder"] == str(run.path)
        for key, value in flatten(run.config().model_dump()).items():
            assert row[key] == {None: "", True: "true", False: "false"}.get(
                value if value is None or isinstance(value, bool) else 0.5,
                json.dumps(value) if isinstance(value, list) else str(value),
            ), key
        metrics = [row for row in tables["metrics"] if row["run"] == run.name]
        found = {
            (row["split"], row["metric"]): (float(row["value"]), row["unit"]) for row in metrics
        }
        assert found == {
            (split, name): (entry["value"], entry["unit"])
            for split, entries in run.metrics().items()
            for name, entry in entries.items()
        }
        history = [row for row in tables["history"] if row["run"] == run.name]
        key = "train.elbo" if "epoch" in run.records()[0] else "train.log_prob"
        assert [float(row[key]) for row in history] == expected_history(run)


def test_parquet_has_the_types_and_the_numbers(
    invoke: Any, two: list[RunFolder], tmp_path: Path
) -> None:
    from pyarrow import parquet

    done = invoke("export", "parquet", *[run.path for run in two], "--out", tmp_path / "tables")
    assert done.exit_code == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    runs, metrics, history = (parquet.read_table(path).to_pylist() for path in paths)
    assert [row["run"] for row in runs] == [run.name for run in two]
    assert runs[1]["model.latent_dim"] == 3
    assert runs[0]["model.latent_dim"] is None
    assert runs[1]["model.conditional"] is True
    assert json.loads(runs[0]["data.labels"]) == [4, 9]
    for run in two:
        [value] = [
            row["value"]
            for row in metrics
            if (row["run"], row["split"], row["metric"]) == (run.name, "test", "elbo")
        ]
        assert value == run.metrics()["test"]["elbo"]["value"]
        assert len([row for row in history if row["run"] == run.name]) == len(run.records())


def test_a_folder_of_runs_without_those_that_are_damaged(
    invoke: Any, forge: Any, change_json: Any, tmp_path: Path
) -> None:
    good, bad, worse = forge("good"), forge("bad"), forge("worse")
    (bad / "metrics.json").write_text("{")
    change_json(worse / "run.json", status="running", host="another")
    (worse / HEARTBEAT).write_text("{")
    done = invoke("export", "csv", forge.folder, "--out", tmp_path / "tables")
    assert done.exit_code == 0
    assert f"left out: {bad}/metrics.json: damaged" in done.stderr
    assert f"left out: {worse}/{HEARTBEAT}: damaged" in done.stderr
    with (tmp_path / "tables" / "runs.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == [good.name]
    done = invoke("export", "csv", bad, "--out", tmp_path / "none")
    assert (done.exit_code, done.stdout) == (1, "")
    assert not (tmp_path / "none").exists()


def test_a_run_whose_config_was_edited_or_that_cannot_be_read_is_left_out(
    invoke: Any, forge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, edited, broken = forge("good"), forge("edited"), forge("broken")
    text = (edited / "config.yaml").read_text()
    assert "beta: 1.0" in text
    (edited / "config.yaml").write_text(text.replace("beta: 1.0", "beta: 2.0"))
    read = RunFolder.metrics

    def failing(run: RunFolder) -> Any:
        if run.path == broken:
            raise PermissionError(13, "Permission denied", "metrics.json")
        return read(run)

    monkeypatch.setattr(RunFolder, "metrics", failing)
    done = invoke("export", "csv", forge.folder, "--out", tmp_path / "tables")
    assert done.exit_code == 0, done.stderr
    assert f"left out: {edited}: config.yaml changed since the run started" in done.stderr
    assert f"left out: {broken}: " in done.stderr
    assert "Permission denied" in done.stderr
    with (tmp_path / "tables" / "runs.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == [good.name]


@pytest.mark.parametrize("package", ["pyarrow", "mlflow"])
def test_without_its_package_it_is_one_line(
    without: Any, forge: Any, tmp_path: Path, package: str
) -> None:
    kind = {"pyarrow": "parquet", "mlflow": "mlflow"}[package]
    done = without(package, "export", kind, forge("a"), "--out", tmp_path / "tables")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{kind} needs the package {package}, which cannot be imported")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "tables").exists()


class Refusal(Exception):
    """In the place of MlflowException."""


class Tracking:
    """An MLflow without MLflow: what its client is asked for, by the id of a run."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.made = 0
        self.addresses: list[str | None] = []
        self.refuses = False

    def client(self, tracking_uri: str | None) -> "Tracking":
        self.addresses.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        assert name == "vaexp"
        if self.refuses:
            raise Refusal("no\n server")
        return SimpleNamespace(experiment_id="7") if self.made else None

    def create_experiment(self, _name: str) -> str:
        return "7"

    def search_runs(self, experiments: list[str], query: str) -> list[Any]:
        assert experiments == ["7"]
        match = re.fullmatch(r"tags\.`(.+)` LIKE '([^']*)'", query)
        assert match is not None
        like = re.escape(match[2]).replace("_", ".").replace("%", ".*")
        return [
            SimpleNamespace(info=SimpleNamespace(run_id=number), data=SimpleNamespace(**run))
            for number, run in self.runs.items()
            if re.fullmatch(like, run["tags"][match[1]])
        ]

    def create_run(self, _experiment: str, start_time: int, run_name: str, tags: Any) -> Any:
        assert start_time > 1e12  # milliseconds
        self.made += 1
        number = f"run{self.made}"
        self.runs[number] = {"name": run_name, "tags": tags, "params": {}, "metrics": []}
        self.runs[number] |= {"figures": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=number))

    def log_batch(self, number: str, params: Any = (), metrics: Any = ()) -> None:
        assert len(params) <= 100
        assert len(metrics) <= 1000
        self.runs[number]["params"] |= dict(params)
        self.runs[number]["metrics"] += metrics

    def log_artifact(self, number: str, path: str, folder: str) -> None:
        assert Path(path).is_file()
        self.runs[number][folder].append(Path(path).name)

    def set_terminated(self, number: str, status: str, _when: int) -> None:
        self.runs[number]["status"] = status

    def delete_run(self, number: str) -> None:
        del self.runs[number]


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> Tracking:
    made = Tracking()
    for name, content in {
        "mlflow": {"MlflowClient": made.client},
        "mlflow.exceptions": {"MlflowException": Refusal},
        "mlflow.entities": {"Metric": lambda *of: of, "Param": lambda *of: of},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return made


def test_what_mlflow_is_told(invoke: Any, forge: Any, tracking: Tracking) -> None:
    run = RunFolder(forge("a", "model.beta=2"))
    run.append_records([{"epoch": 1, "train": {"elbo": -9.5}}, {"epoch": 2, "train": {"elbo": -9}}])
    (run.path / "figures" / "x.png").write_bytes(b"")
    for number in ("run1", "run2"):  # the second time in place of the first
        done = invoke("export", "mlflow", run.path, "--out", "http://there")
        assert (done.exit_code, done.stdout) == (0, f"{number}\n"), done.stderr or done.exception
    assert tracking.addresses == ["http://there"] * 2
    [(number, logged)] = tracking.runs.items()
    assert (number, logged["name"], logged["status"]) == ("run2", run.name, "FINISHED")
    assert logged["tags"]["vaexp.folder"] == str(run.path)
    assert logged["params"]["model.beta"] == "2.0"
    assert logged["figures"] == ["x.png"]
    metrics = [(name, value, step) for name, value, _, step in logged["metrics"]]
    entry = run.metrics()["test"]["elbo"]
    assert {("train.elbo", -9.5, 1), ("train.elbo", -9, 2)} <= {*metrics}
    assert ("final.test.elbo", entry["value"], 2) in metrics
    assert ("final.test.elbo.se", entry["se"], 2) in metrics


def test_runs_of_one_name_stay_side_by_side(
    invoke: Any, forge: Any, tracking: Tracking, tmp_path: Path
) -> None:
    names = ["it's", "it_s"]
    runs = [tmp_path / folder / name for folder in "ab" for name in names]
    for run in runs:
        run.parent.mkdir(exist_ok=True)
        shutil.copytree(forge("a"), run)
    for _ in range(2):
        done = invoke("export", "mlflow", *runs)
        assert done.exit_code == 0, done.stderr or done.exception
        assert sorted(done.stdout.split()) == sorted(tracking.runs)
    assert [run["name"] for run in tracking.runs.values()] == [*names, *names]
    assert invoke("export", "mlflow", runs[0]).exit_code == 0
    assert sorted(run["name"] for run in tracking.runs.values()) == ["it's", "it_s", "it_s"]


@pytest.mark.parametrize(
    ("arguments", "place"), [([], ""), (["--out", "http://there"], "--out http://there: ")]
)
def test_what_mlflow_refuses_is_one_line(
    invoke: Any, forge: Any, tracking: Tracking, arguments: list[str], place: str
) -> None:
    tracking.refuses = True
    done = invoke("export", "mlflow", forge("a"), *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"{place}MLflow says: no server\n"


@pytest.fixture
def mlflow_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client of a store in a folder, which this MLflow may want to be asked for."""
    mlflow = pytest.importorskip("mlflow", reason="it is large, so not in the extra dev")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return mlflow.MlflowClient(tracking_uri=str(tmp_path / "mlruns"))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MLflow on its store in a folder
def test_mlflow(invoke: Any, two: list[RunFolder], mlflow_client: Any, tmp_path: Path) -> None:
    for _ in range(2):  # the second time in place of the first
        done = invoke("export", "mlflow", *[run.path for run in two], "--out", tmp_path / "mlruns")
        assert done.exit_code == 0, done.stderr or done.exception
    experiment = mlflow_client.get_experiment_by_name("vaexp").experiment_id
    found = {one.info.run_name: one for one in mlflow_client.search_runs([experiment])}
    assert sorted(found) == sorted(run.name for run in two)
    assert sorted(done.stdout.split()) == sorted(one.info.run_id for one in found.values())
    for run in two:
        logged = found[run.name]
        assert logged.info.status == "FINISHED"
        assert logged.data.params["model.kind"] == run.config().model.kind
        elbo = run.metrics()["test"]["elbo"]
        assert logged.data.metrics["final.test.elbo"] == elbo["value"]
        assert logged.data.metrics["final.test.elbo.se"] == elbo["se"]
        key = "train.elbo" if "epoch" in run.records()[0] else "train.log_prob"
        history = mlflow_client.get_metric_history(logged.info.run_id, key)
        assert [one.value for one in sorted(history, key=lambda one: one.step)] == expected_history(
            run
        )
        artifacts = mlflow_client.list_artifacts(logged.info.run_id, "figures")
        assert {Path(one.path).name for one in artifacts} == {
            path.name for path in run.path.glob("figures/*.png")
        }
