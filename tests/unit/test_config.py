"""Settings: order of the sources, what each kind accepts, errors, what is in force, and the documentation."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.config import ConfigError, Endpoint, Settings, load, rows
from postroom.config.__main__ import render
from postroom.config.kinds import duration, show_duration, show_size, size
from postroom.secret import BULLETS, Secret

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def from_environment(**values: str) -> Settings:
    return load({}, {f"POSTROOM_{name.upper()}": value for name, value in values.items()})


def from_toml(folder: Path, text: str) -> Settings:
    file = folder / "postroom.toml"
    file.write_text(text, "utf-8")
    return load({}, {}, file)


def problems_of(**values: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        from_environment(**values)
    return caught.value.problems


def test_without_anything_the_defaults_hold() -> None:
    settings = load({}, {})

    assert settings == Settings()
    assert settings.data == Path("postroom-data")
    assert settings.http == Endpoint("127.0.0.1", 8080)
    assert settings.smtp == Endpoint("127.0.0.1", 2525)
    assert settings.inbox is None
    assert settings.unknown_wait_s == 30
    assert settings.retry_longest_wait_s == 4 * 3600
    assert settings.give_up_bulk_s == 5 * 86400
    assert settings.max_message_bytes == 26_214_400
    assert settings.max_header_bytes == 102_400
    assert settings.queue_bytes == 256 * 1024**2
    assert settings.api_rate_per_minute is None
    assert settings.dial_private == "smtp"
    assert settings.allow_clear_auth is False
    assert settings.trusted_proxies == ()
    assert not settings.metrics_token


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "postroom.toml"
    file.write_text('log_level = "warning"\nhelo_name = "file.example"\nmax_headers = 50\n')
    environ = {"POSTROOM_LOG_LEVEL": "error", "POSTROOM_HELO_NAME": "environment.example", "HOME": "/root"}

    settings = load({"log_level": "debug", "max_headers": None}, environ, file)

    assert (settings.log_level, settings.helo_name, settings.max_headers) == (
        "debug",
        "environment.example",
        50,
    )
    sources = {row.name: row.source for row in settings.explain()}
    assert sources["log_level"] == "flag"
    assert sources["helo_name"] == "environment"
    assert sources["max_headers"] == f"file {file}"
    assert sources["drain"] == "default"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file, other = tmp_path / "a.toml", tmp_path / "b.toml"
    file.write_text("max_headers = 50")
    other.write_text("max_headers = 60")

    assert load({}, {"POSTROOM_CONFIG": str(file)}).max_headers == 50
    assert load({}, {"POSTROOM_CONFIG": str(file)}, other).max_headers == 60
    assert load({}, {"POSTROOM_CONFIG": ""}).max_headers == 100


def test_toml_values_may_be_of_their_own_type(tmp_path: Path) -> None:
    settings = from_toml(
        tmp_path,
        'allow_clear_auth = true\ndrain = 5\nsession_idle = 0.5\nlease = "2m"\nmax_recipients = 7\n'
        'max_body_bytes = 30000000\ntrusted_proxies = ["10.0.0.0/8", "::1"]\ninbox = "[::1]:2526"\n',
    )

    assert settings.allow_clear_auth is True
    assert (settings.drain_s, settings.session_idle_s, settings.lease_s) == (5, 0.5, 120)
    assert (settings.max_recipients, settings.max_body_bytes) == (7, 30_000_000)
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert settings.inbox == Endpoint("::1", 2526)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("http", "0.0.0.0:80", Endpoint("0.0.0.0", 80)),
        ("http", "[::]:0", Endpoint("::", 0)),
        ("http", " mail.example.com:8080 ", Endpoint("mail.example.com", 8080)),
        ("inbox", "", None),
        ("public_url", "https://mail.example.com/", "https://mail.example.com"),
        ("public_url", "http://[::1]:8080/post", "http://[::1]:8080/post"),
        ("public_url", "", ""),
        ("helo_name", "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("helo_name", "[192.0.2.1]", "[192.0.2.1]"),
        ("allow_clear_auth", "Yes", True),
        ("allow_clear_auth", "0", False),
        ("dial_private", "NONE", "none"),
        ("drain_s", "90", 90),
        ("drain_s", "1.5m", 90),
        ("drain_s", "30 s", 30),
        ("keep_events_s", "365d", 365 * 86400),
        ("max_body_bytes", "1 gb", 1024**3),
        ("api_rate_per_minute", "0", 0),
        ("api_rate_per_minute", "", None),
        (
            "trusted_proxies",
            "10.0.0.0/8, 192.0.2.7 ::1",
            tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.7", "::1"))),
        ),
        ("trusted_proxies", "", ()),
        ("metrics_token", "s3cret", Secret("s3cret")),
        ("data", "/var/lib/postroom", Path("/var/lib/postroom")),
    ],
)
def test_a_text_becomes_its_value(name: str, text: str, value: object) -> None:
    extra = {"queue_bytes": "2GB"} if name == "max_body_bytes" else {}

    assert getattr(from_environment(**{name.removesuffix("_s"): text}, **extra), name) == value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("http", "8080", "POSTROOM_HTTP must be host:port, such as 127.0.0.1:8080 or [::1]:8080, not '8080'"),
        ("http", "", "must be host:port"),
        ("http", ":8080", "must be host:port"),
        ("http", "127.0.0.1:65536", "must be host:port"),
        ("http", "127.0.0.1:-1", "must be host:port"),
        ("http", "127.0.0.1:٣", "must be host:port"),
        ("http", "300.0.0.1:80", "must be host:port"),
        ("http", "::1:8080", "must be host:port"),
        ("http", "[127.0.0.1]:8080", "must be host:port"),
        ("http", "a b:8080", "must be host:port"),
        ("public_url", "mail.example.com", "must be like https://mail.example.com"),
        ("public_url", "ftp://mail.example.com", "must be like https"),
        ("public_url", "https://user:pw@mail.example.com", "must be like https"),
        ("public_url", "https://mail.example.com/?a=1", "must be like https"),
        ("public_url", "https://mail.example.com:99999", "must be like https"),
        ("public_url", "https:///x", "must be like https"),
        ("public_url", "https://mail.example.com/a>b", "must be like https"),
        ("public_url", "https://mail.example.com/" + "a" * 500, "is longer than 500 characters"),
        ("public_url", "https://a\r\nX: y", "must be like https"),
        ("helo_name", "bad_name", "must be a host name or an address literal"),
        ("helo_name", "192.0.2.1", "must be a host name or an address literal"),
        ("helo_name", "[nowhere]", "must be a host name or an address literal"),
        ("allow_clear_auth", "maybe", "must be true or false"),
        ("allow_clear_auth", "", "must be true or false"),
        ("log_level", "loud", "must be one of debug, info, warning, error, not 'loud'"),
        ("drain", "5 minutes", "must be a duration like 30, 30s, 5m, 24h or 30d, not '5 minutes'"),
        ("drain", "-1", "must be a duration"),
        ("drain", "inf", "must be a duration"),
        ("drain", "", "must be a duration"),
        ("drain", "2h", "must be from 0s to 1h, not '2h'"),
        ("max_recipients", "0", "must be a whole number from 1 to 100000, not '0'"),
        ("max_recipients", "1.5", "must be a whole number"),
        ("max_recipients", "1e3", "must be a whole number"),
        ("max_recipients", "9" * 5000, "must be a whole number"),
        ("api_rate_per_minute", "-1", "must be a whole number"),
        ("max_body_bytes", "35 MiB", "must be a size like 102400, 100KB or 25MB, not '35 MiB'"),
        ("max_body_bytes", "2GB", "must be from 1KB to 1GB"),
        ("trusted_proxies", "10.0.0.1/8", "without bits behind the mask, not '10.0.0.1/8'"),
        ("trusted_proxies", "proxy.example.com", "must list addresses or networks"),
        ("tls_ca_file", "/nowhere/ca.pem", "names /nowhere/ca.pem, which is not a file"),
        ("data", "", "must be a path"),
        ("data", "~nobody-has-this-name/x", "names a home folder nobody has"),
    ],
)
def test_a_value_that_does_not_fit_is_said_clearly(name: str, text: str, said: str) -> None:
    (problem,) = problems_of(**{name: text})

    assert problem.startswith(f"environment: POSTROOM_{name.upper()} ")
    assert said in problem
    assert len(problem) < 250


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allow_clear_auth = 1", "allow_clear_auth must be true or false"),
        ("max_headers = true", "max_headers must be a number or a text"),
        ("max_headers = [1]", "max_headers must be a number or a text"),
        ("drain = nan", "drain must be a duration"),
        ("drain = inf", "drain must be a duration"),
        ("http = 8080", "http must be a text"),
        ("trusted_proxies = [1]", "trusted_proxies must list addresses"),
        ("metrics_token = 12345678", "metrics_token must be a text"),
        ("[smtp]\nport = 25", "smtp must be a text"),
        ("log_level = info", "is not TOML"),
        ("drain = 1\ndrain = 2", "is not TOML"),
        ("a = " + "[" * 100_000, "is not TOML"),
        ("log_levl = 'info'", "there is no setting log_levl; did you mean log_level?"),
        ("quux = 1", "there is no setting quux"),
    ],
)
def test_a_file_that_does_not_fit_is_said_clearly(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml(tmp_path, text)

    (problem,) = caught.value.problems
    assert problem.startswith(f"file {tmp_path / 'postroom.toml'}: ")
    assert said in problem
    assert "12345678" not in problem


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")

    for file, said in (
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=said):
            load({}, {}, file)


def test_an_unknown_name_is_an_error_with_the_nearest_known() -> None:
    assert problems_of(log_levle="info") == (
        "environment: there is no setting POSTROOM_LOG_LEVLE; did you mean log_level?",
    )
    assert problems_of(port="8080") == ("environment: there is no setting POSTROOM_PORT",)
    with pytest.raises(ConfigError, match="flag: there is no setting --log-levle; did you mean log_level"):
        load({"log_levle": "info"}, {})


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of(http="x", drain="y", nonsense="z")

    assert [problem.split()[1] for problem in problems] == ["POSTROOM_DRAIN", "POSTROOM_HTTP", "there"]


def test_what_kubernetes_sets_for_a_service_is_passed_over() -> None:
    load(
        {},
        {
            "POSTROOM_SERVICE_HOST": "10.0.0.7",
            "POSTROOM_SERVICE_PORT": "8080",
            "POSTROOM_SERVICE_PORT_HTTP": "8080",
            "POSTROOM_PORT": "tcp://10.0.0.7:8080",
            "POSTROOM_PORT_8080_TCP": "tcp://10.0.0.7:8080",
            "POSTROOM_PORT_8080_TCP_ADDR": "10.0.0.7",
            "POSTROOM_SMTP_PORT_2525_TCP_PROTO": "tcp",
            "POSTROOM_SMTP_PORT": "tcp://10.0.0.8:2525",
        },
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"retry_first_wait": "5h"}, "retry_first_wait is more than retry_longest_wait"),
        ({"backoff_first": "20m"}, "backoff_first is more than backoff_longest"),
        ({"max_message_bytes": "40MB"}, "max_message_bytes is more than max_body_bytes"),
        ({"queue_bytes": "20MB"}, "max_body_bytes is more than queue_bytes"),
        ({"lease_renew": "31s"}, "lease_renew is more than a third of lease"),
        (
            {"smtp": "127.0.0.1:8080"},
            "http, smtp, smtps, inbox and operations each need",
        ),
        (
            {"smtps": "127.0.0.1:2525"},
            "http, smtp, smtps, inbox and operations each need",
        ),
        ({"processes": "2"}, "processes needs PostgreSQL (`database`)"),
        ({"role": "http, deliver"}, "role needs PostgreSQL (`database`)"),
        ({"key_ring": "x"}, "key_ring is for PostgreSQL (`database`)"),
        (
            {"max_message_bytes": "30MB", "submission_bytes_in_flight": "29MB"},
            "max_message_bytes is more than submission_bytes_in_flight",
        ),
    ],
)
def test_values_that_contradict_each_other(values: dict[str, str], said: str) -> None:
    (problem,) = problems_of(**values)

    assert said in problem


def test_ports_picked_by_the_system_do_not_clash() -> None:
    settings = from_environment(http="127.0.0.1:0", smtp="127.0.0.1:0", inbox="127.0.0.1:0")

    assert settings.http.port == 0


def test_explain_shows_every_row_as_it_could_be_written() -> None:
    settings = from_environment(
        drain="120", inbox="[::1]:25", max_body_bytes="31457280", trusted_proxies="::1"
    )
    shown = {row.name: row for row in settings.explain()}

    assert list(shown) == [row.name for row in rows()]
    assert (shown["drain"].value, shown["drain"].default, shown["drain"].unit) == ("2m", "30s", "s")
    assert shown["inbox"].value == "[::1]:25"
    assert shown["max_body_bytes"].value == "30MB"
    assert shown["trusted_proxies"].value == "::1/128"
    assert shown["api_rate_per_minute"].value == ""
    again = from_environment(**{row.name: row.value for row in settings.explain()})
    assert again == settings


def test_a_secret_is_shown_nowhere() -> None:
    settings = from_environment(metrics_token="open-sesame")
    shown = {row.name: row.value for row in settings.explain()}

    assert settings.metrics_token.reveal() == "open-sesame"
    assert shown["metrics_token"] == BULLETS
    assert "open-sesame" not in repr(settings) + str(settings.explain())


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().drain_s = 1  # type: ignore[misc]  # that it is refused is the point


@given(st.integers(0, 10_000_000))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_durations_and_sizes_read_back_as_shown(number: int) -> None:
    assert duration("0s", "3650d").read(show_duration(number)) == number
    assert duration("0s", "3650d").read(show_duration(number / 1000)) == number / 1000
    assert size("0", "1GB").read(show_size(number)) == number


def test_every_row_is_complete_and_its_default_is_shown_as_written() -> None:
    for row in rows():
        assert row.meaning.endswith("."), row.name
        assert len(row.meaning) < 110, row.name
        assert row.name == row.name.lower()
        if row.kind.unit == "s":
            assert row.attribute == row.name + "_s"
        assert row.kind.read(row.default) == getattr(Settings(), row.attribute)


def test_the_documentation_is_what_the_table_renders() -> None:
    assert DOCS.read_text("utf-8") == render(), "run: python -m postroom.config > docs/configuration.md"


def test_the_module_prints_the_documentation() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "postroom.config"],
        capture_output=True,
        check=True,
        timeout=20,
        cwd=DOCS.parents[1],
    )

    assert done.stdout.decode() == render()
    assert done.stderr == b""
