"""`token-service report` on an SQLite database."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from tests.unit.core.reports.trail.day import first_chain, second_chain
from token_service.app.adapters import audit_keys_of, open_stores
from token_service.cli import cli
from token_service.config import load_settings, prepare_data_dir
from token_service.core.reports.trail.reports import KINDS

RANGE = ("--from", "2020-03-02", "--to", "2020-03-03")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report") / "data"
    asyncio.run(_fill(directory))
    return directory


async def _fill(directory: Path) -> None:
    settings = load_settings({"data_dir": str(directory)}, {})
    prepare_data_dir(directory)
    for node, events in (("node-a", first_chain()), ("node-b", second_chain())):
        async with open_stores(settings, await audit_keys_of(settings), node) as stores:
            await stores.migrate()
            await stores.audit.append(list(events))


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    """A data directory whose trail has the events of `day`."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    with (
        sqlite3.connect(template / "token_service.db") as source,
        sqlite3.connect(directory / "token_service.db") as copy,
    ):
        source.backup(copy)
    for connection in (source, copy):
        connection.close()
    (directory / "token_service.db").chmod(0o600)
    key = directory / "audit.key"
    key.touch(mode=0o600)
    key.write_bytes((template / "audit.key").read_bytes())
    return directory


def run(data: Path, *arguments: str) -> Result:
    environ = {"TOKEN_SERVICE_DATA_DIR": str(data)}
    return CliRunner().invoke(cli, ["report", *arguments], env=environ, prog_name="token-service")


def sql(data: Path, statement: str) -> None:
    connection = sqlite3.connect(data / "token_service.db")
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["html", "csv", "json"])
def test_report_is_the_same_each_time_and_verifies(data: Path, tmp_path: Path, kind: str, form: str) -> None:
    file = tmp_path / f"report.{form}"
    made = run(data, kind, *RANGE, "--out", str(file))
    assert (made.exit_code, made.output) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(data, kind, *RANGE, "-o", form).stdout_bytes == file.read_bytes()
    verified = run(data, "verify", str(file))
    assert verified.exit_code == 0, verified.output
    assert (
        f"is the {kind} report of the trail from 2020-03-02T00:00:00Z to 2020-03-03T00:00:00Z, of 24 events"
        in (verified.stdout)
    )


@pytest.mark.parametrize(
    ("form", "old", "new"),
    [
        ("html", ">2</dd>", ">3</dd>"),
        ("csv", "by_client,web,1,", "by_client,web,7,"),
        ("json", '"issued": 2', '"issued": 3'),
    ],
)
def test_changed_report_does_not_verify(data: Path, tmp_path: Path, form: str, old: str, new: str) -> None:
    file = tmp_path / f"usage.{form}"
    run(data, "usage", *RANGE, "--out", str(file))
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    found = run(data, "verify", str(file))
    assert found.exit_code == 6
    assert "was changed after it was written" in found.output


def test_report_with_a_hash_of_its_own_does_not_verify(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "usage.json"
    run(data, "usage", *RANGE, "--out", str(file))
    members = json.loads(file.read_text())
    members["figures"]["issued"] = 3
    from token_service.core.reports.trail.document import hash_of

    members["sha256"] = hash_of(members)
    file.write_text(json.dumps(members))
    found = run(data, "verify", str(file))
    assert found.exit_code == 6
    assert f"its hash is {members['sha256']}, and that of the trail's report is" in found.stdout
    assert f"{file}: its figures differ" in found.stdout.splitlines()
    assert "its tables differ" not in found.stdout


def test_erasure_and_retention_are_told_apart_from_a_change(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "anomalies.json"
    run(data, "anomalies", *RANGE, "--out", str(file))
    environ = {"TOKEN_SERVICE_DATA_DIR": str(data)}
    CliRunner().invoke(cli, ["audit", "erase", "--subject", "carol", "--yes"], env=environ)
    erased = run(data, "verify", str(file))
    assert erased.exit_code == 6
    assert "personal fields of 2 events were erased since" in erased.stdout
    assert "its chains differ" not in erased.stdout

    run(data, "anomalies", *RANGE, "--out", str(file))
    asyncio.run(_prune(data))
    cut = run(data, "verify", str(file))
    assert cut.exit_code == 6
    assert "the report is of 24 events, and the trail has 20 in this range" in cut.stdout
    made = run(data, "anomalies", *RANGE)
    assert made.exit_code == 0
    assert "The retention has deleted events right before the first one in 1 chains" in made.stderr


async def _prune(data: Path) -> None:
    settings = load_settings({"data_dir": str(data)}, {})
    async with open_stores(settings, await audit_keys_of(settings), "keeper") as stores:
        two = 1_583_114_400.0
        assert await stores.audit.prune(two, two, two, 100) == 5


def test_changed_trail_is_told_in_the_report_and_by_the_exit_code(data: Path, tmp_path: Path) -> None:
    sql(data, "UPDATE audit_events SET actor_name = 'mallory' WHERE chain_id = 'node-b' AND position = 4")
    made = run(data, "administration", *RANGE)
    assert made.exit_code == 1
    members = json.loads(made.stdout)
    assert members["findings"] == ["node-b:4 was changed, or is not in its place"]
    assert members["verified"] is False
    assert "node-b:4 was changed" in made.stderr
    assert "`token-service audit verify` verifies all of it" in made.stderr
    file = tmp_path / "administration.html"
    run(data, "administration", *RANGE, "--out", str(file))
    assert "The events are not as they were written." in file.read_text()
    assert run(data, "verify", str(file)).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("usage", "--from", "yesterday"), "is no time such as 2026-11-30T08:00:00Z"),
        (
            ("usage", "--from", "2020-03-03", "--to", "2020-03-02"),
            "the range of --from and --to ends at 2020-03-02",
        ),
        (
            ("usage", "--from", "2010-01-01", "--to", "2020-03-02", "--by", "hour"),
            "choose days, or a shorter range",
        ),
        (("usage", *RANGE, "--out", "report.pdf"), "does not end with a format; add -o html, csv or json"),
        (("usage", *RANGE, "--geoip", "x.mmdb"), "No such option"),
        (
            ("geography", *RANGE, "--geoip", "missing.mmdb"),
            "missing.mmdb can't be read: No such file or directory",
        ),
        (("verify", "missing.html"), "missing.html: No such file or directory"),
    ],
)
def test_wrong_arguments_are_refused_with_what_to_do(
    data: Path, arguments: tuple[str, ...], problem: str
) -> None:
    found = run(data, *arguments)
    assert found.exit_code == 2
    assert problem in found.stderr


def test_unwritable_file_is_named_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    found = run(data, "usage", *RANGE, "--out", str(tmp_path / "none" / "usage.html"))
    assert found.exit_code == 1
    assert "usage.html: No such file or directory" in found.stderr
    (tmp_path / "full").mkdir()
    blocked = tmp_path / "full" / "usage.html"
    (blocked / "directory").mkdir(parents=True)
    assert run(data, "usage", *RANGE, "--out", str(blocked)).exit_code == 2
    assert list((tmp_path / "full").iterdir()) == [blocked]


def test_file_that_is_no_report_is_refused(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")
    assert "is no report that this command wrote" in run(data, "verify", str(file)).stderr
    run(data, "usage", *RANGE, "--out", str(file))
    members = json.loads(file.read_text())
    from token_service.core.reports.trail.document import hash_of

    members["format"] = 99
    members["sha256"] = hash_of(members)
    file.write_text(json.dumps(members))
    found = run(data, "verify", str(file))
    assert found.exit_code == 2
    assert "has the format 99, and this version makes 1" in found.stderr


def test_range_that_is_not_over_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_service.cli.reports.making.time.time", lambda: 1_583_110_400.0)
    found = run(data, "usage", *RANGE)
    assert "The range is not over" in found.stderr
    assert json.loads(run(data, "usage", "--from", "1h").stdout)["to"] == "2020-03-02T00:53:20Z"


@pytest.fixture
def geoip(tmp_path: Path) -> Path:
    """A file in MaxMind's format: 192.0.2.0/24 is in FR, and 2001:db8::/32 is registered in US."""
    writer = MMDBWriter(6, "Test-Country", languages=["en"], ipv4_compatible=True)
    writer.insert_network(IPSet(["192.0.2.0/24"]), {"country": {"iso_code": "FR"}})
    writer.insert_network(IPSet(["2001:db8::/32"]), {"registered_country": {"iso_code": "US"}})
    file = tmp_path / "countries.mmdb"
    writer.to_db_file(str(file))
    return file


def test_geography_names_the_countries_of_a_file(data: Path, geoip: Path, tmp_path: Path) -> None:
    file = tmp_path / "geography.json"
    made = run(data, "geography", *RANGE, "--geoip", str(geoip), "--out", str(file))
    assert made.exit_code == 0, made.output
    rows = json.loads(file.read_text())["tables"]["by_country"]["rows"]
    assert [(row["country"], row["events"]) for row in rows] == [
        ("FR", 4),
        ("US", 4),
        ("DE", 1),
        ("unknown", 1),
    ]
    without = run(data, "verify", str(file))
    assert without.exit_code == 2
    assert "give the same one with --geoip" in without.stderr
    assert run(data, "verify", str(file), "--geoip", str(geoip)).exit_code == 0
    other = geoip.with_name("other.mmdb")
    writer = MMDBWriter(4, "Other", languages=["en"])
    writer.insert_network(IPSet(["192.0.2.0/24"]), {"country": {"iso_code": "FR"}})
    writer.to_db_file(str(other))
    assert (
        "is not the file that the report was made with"
        in run(data, "verify", str(file), "--geoip", str(other)).stderr
    )
    # An IPv6 address in a file of IPv4 has no country.
    found = json.loads(run(data, "geography", *RANGE, "--geoip", str(other)).stdout)["figures"]
    assert (found["placed"], found["unknown"]) == (5, 5)


def test_file_of_another_kind_is_no_file_of_countries(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "countries.csv"
    file.write_text("192.0.2.0/24,FR")
    found = run(data, "geography", *RANGE, "--geoip", str(file))
    assert found.exit_code == 2
    assert (
        "is no database of addresses in MaxMind's format; give a file such as GeoLite2-City.mmdb"
        in found.stderr
    )
