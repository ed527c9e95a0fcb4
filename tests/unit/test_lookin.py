"""Pure parts of looking in: filters of events, statistics of both kinds of cgroups, words of changes."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.isolation import Stats
from hooper.api.model import Container, ContainerConfig, Event, HostConfig, ImageConfig
from hooper.engine.changes import apply_changes
from hooper_api_docker import events, stats

STARTED = Event("container", "start", "c1", 5 * 10**18, {"image": "host:5000/a/b:1", "name": "web", "l": "1"})
TOLD = Event("container", "health_status: healthy", "c1", 1, {"image": "busybox", "name": "web"})
PRUNED = Event("container", "prune", "", 1, {"reclaimed": "0"})
CONTAINER = Container(id="c1", name="web", created="", config=ContainerConfig(), host_config=HostConfig())


@pytest.mark.parametrize(
    ("event", "filters", "expected"),
    [
        (STARTED, {"image": ["host:5000/a/b"]}, True),
        (STARTED, {"image": ["host:5000/a/b:1"]}, True),
        (STARTED, {"image": ["host"]}, False),
        (STARTED, {"container": ["we"]}, True),
        (STARTED, {"container": ["x", "c"]}, True),
        (STARTED, {"container": ["web"], "label": ["l=2"]}, False),
        (STARTED, {"label": ["l", "name=web"]}, True),
        (STARTED, {"event": []}, True),
        (TOLD, {"event": ["health_status"]}, True),
        (TOLD, {"event": ["health_status: healthy"]}, True),
        (TOLD, {"event": ["health"]}, False),
        (TOLD, {"image": ["busybox:latest"]}, False),
        (PRUNED, {"container": ["c1"]}, False),
    ],
)
def test_filters_of_events(event: Event, filters: dict[str, list[str]], expected: bool) -> None:
    assert events.matches(event, filters) is expected


def test_an_event_has_no_empty_field() -> None:
    assert events.shape(PRUNED)["status"] == "prune" and "id" not in events.shape(PRUNED)
    assert events.shape(STARTED)["from"] == "host:5000/a/b:1" and events.shape(STARTED)["time"] == 5 * 10**9


def shown(current: Stats | None) -> dict[str, dict[str, object]]:
    return stats.shape(CONTAINER, current, None, now="now", system=7, networks={})


def test_statistics_of_cgroup_v1() -> None:
    one = Stats(block_io=[(8, 0, "read", 5)], block_operations=[(8, 0, "write", 1)], cpu_each=[1, 2], memory_peak=9)
    found = shown(one)
    assert found["cpu_stats"]["cpu_usage"]["percpu_usage"] == [1, 2]  # type: ignore[index]
    assert found["memory_stats"]["max_usage"] == 9
    blocks = found["blkio_stats"]
    assert blocks["io_service_bytes_recursive"] == [{"major": 8, "minor": 0, "op": "Read", "value": 5}]
    assert blocks["io_serviced_recursive"] == [{"major": 8, "minor": 0, "op": "Write", "value": 1}]
    assert blocks["io_time_recursive"] == [] and blocks["sectors_recursive"] == []


def test_statistics_of_cgroup_v2() -> None:
    found = shown(Stats(block_io=[(8, 0, "read", 5)]))
    assert "percpu_usage" not in found["cpu_stats"]["cpu_usage"]  # type: ignore[operator]
    assert "max_usage" not in found["memory_stats"]
    blocks = found["blkio_stats"]
    assert blocks["io_service_bytes_recursive"] == [{"major": 8, "minor": 0, "op": "read", "value": 5}]
    assert blocks["io_serviced_recursive"] is None and blocks["io_time_recursive"] is None


def test_statistics_of_what_does_not_run() -> None:
    found = shown(None)
    assert found["memory_stats"] == {} and found["pids_stats"] == {} and "networks" not in found


def changed(change: str) -> ImageConfig:
    config = ImageConfig(env=["A=x y", "EMPTY="], cmd=["old"], working_dir="/w")
    apply_changes(config, [change])
    return config


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("LABEL k=$A", {"k": "x y"}),
        ("LABEL k='$A'", {"k": "$A"}),
        ('LABEL k="$A \\$A \\" \\\\"', {"k": 'x y $A " \\'}),
        ("LABEL k=\\$A", {"k": "$A"}),
        ("LABEL k=${A}z j=${NO:-d} i=${A:+s} h=${EMPTY:-e}", {"k": "x yz", "j": "d", "i": "s", "h": "e"}),
        ('LABEL "a b"=c\\ d', {"a b": "c d"}),
        ("LABEL k some 'words'", {"k": "some words"}),
        ("LABEL k=", {"k": ""}),
        ("LABEL k=$", {"k": "$"}),
    ],
)
def test_words_and_variables(change: str, expected: dict[str, str]) -> None:
    assert changed(change).labels == expected


@pytest.mark.parametrize(
    "change",
    ["LABEL k='open", "LABEL k", "LABEL =v", "LABEL a=b c", "EXPOSE 9-3", "EXPOSE 1/x", "STOPSIGNAL NONE", "VOLUME",
     "HEALTHCHECK --interval CMD x", "HEALTHCHECK --interval=5 CMD x", "HEALTHCHECK --interval=1us CMD x",
     "HEALTHCHECK --nosuch=1 CMD x", "HEALTHCHECK --retries=x CMD x", "HEALTHCHECK CMD", "HEALTHCHECK NONE x"],
)  # fmt: skip
def test_what_cannot_be_read(change: str) -> None:
    with pytest.raises(InvalidArgument):
        changed(change)


def test_a_healthcheck_and_an_entrypoint() -> None:
    check = changed("HEALTHCHECK --start-period=1m0.5s --start-interval=100ms CMD a  b").healthcheck
    assert check and (check.test, check.start_period, check.start_interval) == (
        ["CMD-SHELL", "a  b"], 60_500_000_000, 100_000_000
    )  # fmt: skip
    assert changed("ENTRYPOINT x").cmd is None
    config = ImageConfig()
    apply_changes(config, ["CMD y", "ENTRYPOINT x"])
    assert config.cmd == ["/bin/sh", "-c", "y"]
