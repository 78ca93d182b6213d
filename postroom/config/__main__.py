"""`python -m postroom.config > docs/configuration.md`: the settings' documentation, from their table."""

from __future__ import annotations

from postroom.config import CONFIG_VARIABLE, rows

_INTRO = f"""\
# Settings

<!-- Written by `python -m postroom.config > docs/configuration.md` from postroom/config; edit it there. -->

Each setting can be given in four places; the first that has it wins:

1. a flag: `--log-level debug`
2. an environment variable: `POSTROOM_LOG_LEVEL=debug`
3. the TOML file named by `--config` or `{CONFIG_VARIABLE}`: `log_level = "debug"`
4. its default

`postroom config` prints what is in force and where each value came from. A name that is not in this table,
in the file or behind `POSTROOM_`, stops Postroom at start and names the nearest setting; so does a value that
does not fit. (The variables Kubernetes sets for a service called `postroom` are passed over.)

A duration is a number of seconds or has a unit: `30`, `30s`, `5m`, `24h`, `30d`. A size is a number of bytes
or has a unit: `102400`, `100KB`, `25MB`, `1GB`; 1 KB is 1,024 bytes. A list is a TOML array, or words with
commas between them. Empty is written `""`. A relative path starts at the folder Postroom is started in.

| setting | kind | default | unit | meaning |
|---|---|---|---|---|
"""


def render() -> str:
    """The whole page, Markdown."""
    return _INTRO + "".join(
        f"| `{row.name}` | {row.kind.word} | {f'`{row.default}`' if row.default else 'empty'} "
        f"| {row.kind.unit or '–'} | {row.meaning} |\n"
        for row in rows()
    )


if __name__ == "__main__":
    print(render(), end="")
