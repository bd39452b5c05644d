"""The benchmarks' own arithmetic, and one short real run; no test asserts a throughput."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import plot, report
from benchmarks.__main__ import GROUPS
from benchmarks.load import REVISION, Call, wrk_script
from benchmarks.plan import Plan
from benchmarks.table import Row, Sample, render

ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan(rounds=3, seconds=0.5)


def row(*rates: tuple[float, float], aim: float | None = 0.85, name: str = "get") -> Row:
    """A row with memX's and the floor's rate of each round."""
    made = Row("HTTP", name, "bare ASGI", aim)
    for memx, floor in rates:
        made.add(Sample(memx, p99=4.0, cpu=30.0), Sample(floor, p99=2.0, cpu=60.0))
    return made


def test_a_row_tells_medians_and_the_median_of_each_rounds_ratio() -> None:
    found = row((90, 100), (50, 200), (110, 100)).as_dict()
    assert (found["rate"], found["floor_rate"]) == (90, 100)
    assert (found["ratio"], found["ratio_min"], found["ratio_max"]) == (0.9, 0.25, 1.1)
    assert (found["p99"], found["floor_p99"], found["p99_ratio"]) == (4.0, 2.0, 2.0)
    assert (found["cpu"], found["floor_cpu"], found["rounds"]) == (30.0, 60.0, 3)


def test_what_was_not_measured_is_left_out_of_a_median_and_is_none_alone() -> None:
    partly = row((90, 100))
    partly.add(Sample(100, memory=2048), Sample(100))
    found = partly.as_dict()
    assert (found["memory"], found["floor_memory"], found["cpu"]) == (2048, None, 30.0)


def test_failures_count_on_both_sides_and_in_every_round() -> None:
    broken = row((90, 100))
    broken.add(Sample(90, failed=2), Sample(100, failed=1))
    broken.add(Sample(90, failed=4))
    assert broken.failed == broken.as_dict()["failed"] == 7
    assert "7 FAILED" in render([broken])


def test_a_row_without_floor_has_no_ratio_and_says_so() -> None:
    alone = Row("Growth", "1,000 keys")
    alone.add(Sample(1000))
    found = alone.as_dict()
    assert (found["rate"], found["ratio"], found["ratio_min"], found["floor_rate"]) == (
        1000,
        None,
        None,
        None,
    )
    assert "absolute medians" in render([alone])


def test_the_table_names_group_and_floor_once_and_only_columns_that_are_filled() -> None:
    missing = Row("Peers", "get", "webdis", note="not installed: apt install webdis")
    text = render([row((90, 100)), row((80, 100), name="set", aim=None), missing])
    http, peers = text.split("\n\n")
    assert http.startswith("HTTP\n")
    assert http.count("beside bare ASGI:") == 1
    assert "0.90" in http
    assert "(0.90-0.90)" in http
    assert "kB" not in http
    assert "(not installed: apt install webdis)" in peers


def test_measuring_alternates_after_a_warm_up() -> None:
    calls: list[tuple[str, float]] = []

    def side(name: str, rate: float) -> Any:
        def measured(seconds: float) -> Sample:
            calls.append((name, seconds))
            return Sample(rate)

        return measured

    made = Plan(rounds=2, seconds=3).alternate(Row("", ""), side("memx", 50), side("floor", 100))
    order = [name for name, _ in calls]
    assert order == ["memx", "floor"] * 3
    assert [seconds for _, seconds in calls] == [0.5, 0.5, 3, 3, 3, 3]
    assert made.ratios == [0.5, 0.5]


def test_a_conditional_call_names_the_revision_that_its_key_has() -> None:
    body = {"key": "k", "if_revision": REVISION, "value": {"a": 1}}
    script = wrk_script(Call("/set", body))
    assert '[=[,"value":{"a":1}}]=]' in script
    assert REVISION not in script


def test_the_json_tells_how_to_compare(tmp_path: Path) -> None:
    path = tmp_path / "results" / "run.json"
    report.write(path, PLAN, [row((90, 100))])
    found = json.loads(path.read_text())
    assert found["plan"] == {"rounds": 3, "seconds": 0.5, "quick": False}
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["cpu"]
    assert {"python", "redis-server", "wrk", "uvicorn"} <= found["versions"].keys()
    assert found["rows"][0]["ratio"] == 0.9
    assert found["date"]
    assert found["command"].startswith("python -m benchmarks")


def test_the_plot_is_well_formed_and_holds_every_ratio() -> None:
    rows = [row((90, 100)), row((1, 100), name="a < b & c"), Row("Peers", "get", "webdis")]
    tree = ET.fromstring(plot.svg(rows))
    texts = ["".join(each.itertext()) for each in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"get", "a < b & c", "0.90 aim 0.85", "0.01 aim 0.85", "beside bare ASGI"} <= {*texts}
    circles = list(tree.iter("{http://www.w3.org/2000/svg}circle"))
    assert [each.get("class") for each in circles] == ["good", "short"]
    assert all(330 <= float(each.get("cx", "0")) <= 770 for each in circles)


def test_every_group_is_a_module_with_a_title_and_a_measure() -> None:
    for module in GROUPS.values():
        text = (ROOT / "benchmarks" / f"{module}.py").read_text()
        assert "\nTITLE = " in text
        assert "\ndef measure(plan: Plan) -> list[Row]:" in text


@pytest.mark.timeout(180)
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk, which drives the load, is missing")
def test_a_short_run_measures_every_row_and_no_request_fails(tmp_path: Path) -> None:
    results, chart = tmp_path / "run.json", tmp_path / "run.svg"
    command = [sys.executable, "-m", "benchmarks", "--only", "http", "--rounds", "1"]
    command += ["--seconds", "0.2", "--json", str(results), "--plot", str(chart)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    rows = json.loads(results.read_text())["rows"]
    assert len(rows) == 8
    assert all(each["failed"] == 0 and each["rate"] and each["floor_rate"] for each in rows)
    assert "HTTP" in done.stdout
    ET.fromstring(chart.read_text())
