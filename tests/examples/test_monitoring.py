"""The dashboard, the rules and the page name metrics that a server has, with their labels."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asgi import INDEXES, application, call
from tests.support.embedder import TINY
from tests.support.engines import DOCS, Record, create, insert
from vicinal import errors
from vicinal.engine.embedded import EmbeddedEngine
from vicinal.server.api import collectors
from vicinal.server.api.services import ServerConfig
from vicinal.snapshots.service import Snapshots
from vicinal.usage import Lag, NodeUsage

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "monitoring"
OPERATIONS = ROOT / "docs" / "operations.md"

NODE = NodeUsage(1, 0.0, 0.0, {DOCS: Lag(1, 1.0)}, 1, 1.0, 1, 1.0, {"cause": 1}, 1, 1, 1.0)
OF_PROMETHEUS = {"up": {"job", "instance"}}
EVERYWHERE = {"job", "instance"}

_NAME = re.compile(r"\b(?:(?:vicinal|process)(?:_[a-z]+)+|up)\b(?!\()")
_LABELS_OF = re.compile(r"\b((?:vicinal|process)_[a-z_]+)\{([^}]*)\}")
_BY = re.compile(r"\bby \(([^)]*)\)")
_SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?([a-z]+)\s*\}\}")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """The names of all samples that a server has, with their labels."""
    folder = tmp_path_factory.mktemp("server")
    labels: dict[str, set[str]] = {}
    with closing(EmbeddedEngine.open(folder / "data")) as engine:
        create(engine)
        insert(engine, Record("a", [1, 1]))
        config = ServerConfig(slow_query_s=1e-9, allowed_hosts=("x",))
        snapshots = Snapshots(engine, folder / "data", folder / "snapshots", "0")
        app = application(folder, engine=engine, config=config, snapshots=snapshots)
        snapshots.create()
        assert call(app, "POST", f"{INDEXES}/docs/query", {"vector": [1, 1]}).status == 200
        run = f"/client/v4/accounts/acme/ai/run/{TINY}"
        assert call(app, "POST", run, {"text": ["one"]}).status == 200
        assert call(app, "GET", f"{INDEXES}/none").status == 404
        families: list[Metric] = [
            *text_string_to_metric_families(call(app, "GET", "/metrics").body.decode()),
            *collectors._of_node(NODE),  # noqa: SLF001  # needs a database otherwise
        ]
    for family in families:
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    labels["vicinal_index_failed"] = {"account", "index"}  # of which there is none
    return labels


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> Any:
    return json.loads((FOLDER / "grafana-dashboard.json").read_text())


def targets() -> Iterator[tuple[str, str]]:
    """Yield each expression of the dashboard, with the text that names its series."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]


def expressions() -> list[str]:
    return [*(rule["expr"] for rule in rules()), *(expression for expression, _ in targets())]


def unknown(expression: str, samples: Mapping[str, set[str]]) -> list[str]:
    """Return the names and labels of an expression that no sample has."""
    names = set(_NAME.findall(expression))
    missing = sorted(names - set(samples) - set(OF_PROMETHEUS))
    known = set(EVERYWHERE)
    for name in names:
        known |= samples.get(name, set())
    for name, selectors in _LABELS_OF.findall(expression):
        selected = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selectors))
        missing += sorted(selected - samples.get(name, set()) - EVERYWHERE)
    for grouped in _BY.findall(expression):
        missing += sorted(set(re.split(r",\s*", grouped)) - known)
    return missing


def test_every_expression_names_metrics_and_labels_that_there_are(
    samples: Mapping[str, set[str]],
) -> None:
    assert len(expressions()) > 60
    problems = {each: unknown(each, samples) for each in expressions()}
    assert {each: problem for each, problem in problems.items() if problem} == {}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(vicinal_refusals_total[5m])", []),
        ("rate(vicinal_refusals[5m])", ["vicinal_refusals"]),
        ('vicinal_index_vectors{index="a"}', []),
        ('vicinal_index_vectors{name="a"}', ["name"]),
        ("sum by (index, le) (vicinal_query_duration_seconds_bucket)", []),
        ("sum by (operation) (vicinal_query_duration_seconds_bucket)", ["operation"]),
        ("process_no_such_thing", ["process_no_such_thing"]),
    ],
)
def test_the_check_of_expressions_can_fail(
    samples: Mapping[str, set[str]], expression: str, expected: list[str]
) -> None:
    assert unknown(expression, samples) == expected


def test_the_names_of_series_are_labels_that_they_have(samples: Mapping[str, set[str]]) -> None:
    for expression, legend in targets():
        names = set(_NAME.findall(expression))
        known = EVERYWHERE.union(*(samples.get(name, set()) for name in names))
        assert set(_SHOWN.findall(legend)) <= known, expression


def test_the_build_is_shown_by_its_name_as_its_value_is_always_1() -> None:
    (panel,) = [each for each in dashboard()["panels"] if each["title"] == "Version"]

    assert panel["options"]["textMode"] == "name"


def test_an_index_that_failed_is_red() -> None:
    (panel,) = [
        each
        for each in dashboard()["panels"]
        if (each["type"], each["title"]) == ("stat", "Indexes that failed")
    ]

    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["value"], step["color"]) for step in steps] == [(None, "green"), (1, "red")]


def test_every_rule_says_how_bad_it_is_and_what_is_wrong() -> None:
    assert len(rules()) > 10
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["alert"].startswith("Vicinal")
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_a_cause_that_a_rule_looks_for_is_one_that_there_is() -> None:
    wanted = {cause for each in expressions() for cause in re.findall(r'cause=~?"([^"]+)"', each)}
    words = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in vars(errors)}

    assert wanted
    assert [each for each in wanted if not any(re.fullmatch(each, word) for word in words)] == []


def test_the_dashboard_has_places_for_all_panels_and_one_id_for_each() -> None:
    panels = dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    places = [panel["gridPos"] for panel in panels]

    assert len(set(ids)) == len(ids) > 20
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert dashboard()["uid"] == "vicinal"


def test_the_rules_are_those_that_prometheus_is_told_of() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())

    assert configuration["rule_files"] == ["alerts.yml"]
    (job,) = configuration["scrape_configs"]
    jobs = {name for each in expressions() for name in re.findall(r'job="([^"]+)"', each)}
    assert jobs == {job["job_name"]}


def test_the_page_tells_every_metric_and_no_other(samples: Mapping[str, set[str]]) -> None:
    text = OPERATIONS.read_text()
    told = set(re.findall(r"`(vicinal_[a-z_]+)(?:\{[a-z, ]*\})?`", text))
    names = (name for name in samples if not name.endswith("_created"))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    ours = {name for name in families if name.startswith("vicinal_")}

    assert ours - of_nodes() == told


def of_nodes() -> set[str]:
    """Return the metrics of servers that share a database, which another page tells."""
    families = collectors._of_node(NODE)  # noqa: SLF001  # needs a database otherwise
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


def test_the_metrics_of_servers_that_share_a_database_are_on_their_page() -> None:
    text = (ROOT / "docs" / "scale-out.md").read_text()

    assert len(of_nodes()) > 8
    assert [name for name in of_nodes() if not shown_in(name, text)] == []


def shown_in(name: str, text: str) -> bool:
    """Tell whether a page has a name, or the end of it behind another one of its beginning."""
    return name in text or any(
        f"`{name[at:]}`" in text and name[:at] in text for at in range(8, len(name))
    )


def test_every_rule_is_explained_on_the_page() -> None:
    told = set(re.findall(r"`(Vicinal[A-Za-z]+)`", OPERATIONS.read_text()))

    assert {rule["alert"] for rule in rules()} == told
